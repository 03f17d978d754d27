"""Models and their versions for people and for programs."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from coral_git.cli.commit_lines import SHORT, facts_json, facts_line, show_time
from coral_git.cli.tables import print_table
from coral_git.history.registry import Event, Model, ModelVersion
from coral_git.manifest.escape import printable


def list_rows(model: Model, stage: str | None) -> list[tuple[str, ...]]:
    """A line for each version that is in a stage, has an alias, or runs somewhere; and for the latest."""
    latest = max(model.versions, default=0)
    rows = []
    for number, version in model.versions.items():
        is_said = number in model.stages or number in model.deployments or model.aliases_of(number)
        if (number == latest or is_said) and (stage is None or model.stages.get(number) == stage):
            rows.append((printable(model.name), *_row(model, version)))
    return rows


def print_model(model: Model) -> None:
    """Every version of a model."""
    print_table([_row(model, version) for version in reversed(list(model.versions.values()))])


def print_version(model: Model, version: ModelVersion) -> None:
    """One version whole."""
    number = version.number
    title = click.style(f"{printable(model.name)} v{number}", bold=True)
    click.echo(f"{title}: {printable(version.tag.description)}")
    rows = [
        ("commit", version.tag.commit),
        ("tagged", f"{show_time(version.tag.time)} by {printable(version.tag.tagger)}"),
        ("stage", model.stages.get(number, "-")),
        ("aliases", " ".join(f"@{alias}" for alias in model.aliases_of(number)) or "-"),
        ("measured", facts_line(version.facts) or "-"),
        *(("file", f"{one.path}  sha256 {one.sha256}") for one in version.files),
        *(
            ("runs in", f"{printable(one.place)} since {show_time(one.time)}, said {printable(one.by)}")
            for one in model.deployments.get(number, ())
        ),
    ]
    print_table([(f"  {name}", text) for name, text in rows])


def event_row(event: Event) -> tuple[str, ...]:
    """What happened, in one line."""
    commit = event.commit
    return (
        click.style(commit.oid[:SHORT], fg="yellow"),
        show_time(commit.time),
        printable(commit.author),
        printable(commit.subject),
    )


def event_json(event: Event) -> dict[str, object]:
    """What happened, for programs."""
    commit = event.commit
    return {
        "kind": event.key.removeprefix("Coral-").lower(),
        "name": event.name,
        "value": event.value,
        "commit": commit.oid,
        "author": commit.author,
        "email": commit.email,
        "time": datetime.fromtimestamp(commit.time, UTC).isoformat(),
    }


def model_json(model: Model, only: ModelVersion | None = None) -> dict[str, object]:
    """A model for programs; with one version where only that is meant."""
    versions = [
        version for version in model.versions.values() if only is None or version.number == only.number
    ]
    return {
        "name": model.name,
        "aliases": dict(model.aliases),
        "versions": [
            {
                "version": version.number,
                "commit": version.tag.commit,
                "tag": version.tag.name,
                "description": version.tag.description,
                "tagger": version.tag.tagger,
                "time": datetime.fromtimestamp(version.tag.time, UTC).isoformat(),
                "stage": model.stages.get(version.number),
                "aliases": model.aliases_of(version.number),
                "files": [one._asdict() for one in version.files],
                "deployments": [one._asdict() for one in model.deployments.get(version.number, ())],
                **facts_json(version.facts),
            }
            for version in versions
        ],
    }


def _row(model: Model, version: ModelVersion) -> tuple[str, ...]:
    number = version.number
    return (
        f"v{number}",
        click.style(version.tag.commit[:SHORT], fg="yellow"),
        model.stages.get(number, ""),
        " ".join(f"@{alias}" for alias in model.aliases_of(number)),
        ", ".join(printable(one.place) for one in model.deployments.get(number, ())),
        facts_line(version.facts),
        printable(version.tag.description),
    )
