"""``git coral merge``: merge branches with a strategy for the weights, and record how."""

from __future__ import annotations

import click

from coral_git.cli.merge_options import search_options, wanted_options
from coral_git.cli.merge_preview import show_previews
from coral_git.cli.options import dry_run_option, json_option, print_json, quiet_option
from coral_git.errors import UsageError
from coral_git.merge.settings import Wanted
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.choosing import GREEDY_SOUP, Search, merge_best
from coral_git.repository.merge_preview import preview
from coral_git.repository.merging import MergeOptions, MergeResult, merge_branch
from coral_git.repository.octopus import merge_branches, merge_models
from coral_git.repository.recipe import read_recipe


@click.command("merge")
@click.argument("branches", nargs=-1, metavar="BRANCH...")
@wanted_options
@click.option("-m", "--message", default="", help="The message of the commit.")
@click.option("--no-commit", is_flag=True, help="Stop before the commit.")
@click.option("--no-ff", "fast_forward", flag_value="--no-ff", help="Make a commit in any case.")
@click.option("--ff-only", "fast_forward", flag_value="--ff-only", help="Only move the branch.")
@click.option("--allow-nonfinite", is_flag=True, help="Take results with new infinities and NaNs.")
@click.option("--recipe", metavar="FILE", help="Merge what a recipe of mergekit says; revisions are models.")
@search_options
@dry_run_option
@json_option
@quiet_option
def command(
    branches: tuple[str, ...],
    wanted: Wanted,
    message: str,
    no_commit: bool,
    fast_forward: str | None,
    allow_nonfinite: bool,
    recipe: str | None,
    search: Search | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Merge branches as 'git merge' does, with a strategy for tensors that several sides changed.

    The commit records strategy, parameters and counts in trailers. With several branches it has that many
    parents. --dry-run shows what each side did to each tensor and what would become of it. --eval tries
    candidates (--sweep, --try, or --strategy greedy-soup) and keeps the best, if HEAD is not better.
    """
    options = MergeOptions(wanted, message, not no_commit, fast_forward or "", allow_nonfinite)
    _check(branches, options, recipe, search, dry_run)
    workspace = Workspace.open()
    try:
        if dry_run:
            return show_previews(list(preview(workspace, branches, wanted)), as_json)
        result = _merge(workspace, branches, options, recipe, search)
    finally:
        workspace.close()
    if as_json:
        print_json({**result._asdict(), "files": [one._asdict() for one in result.files]})
    elif not quiet:
        _print(result)
    return 1 if result.status == "conflict" else 0


def _check(
    branches: tuple[str, ...],
    options: MergeOptions,
    recipe: str | None,
    search: Search | None,
    dry_run: bool,
) -> None:
    """Refuse options that contradict each other."""
    if recipe is not None:
        if branches or search or dry_run or options.wanted.strategy:
            raise UsageError("a recipe says itself what is merged and how: no branches, no --strategy")
    elif not branches:
        raise UsageError("name a branch to merge", hint="git coral merge BRANCH, or --recipe FILE")
    makes_commit = len(branches) != 1 or options.wanted.strategy == GREEDY_SOUP
    if makes_commit and not dry_run and (options.fast_forward or not options.commit):
        raise UsageError("this makes a commit in any case: no --no-commit, no --ff-only, no --no-ff")
    if search is None and options.wanted.strategy == GREEDY_SOUP:
        raise UsageError(f"'{GREEDY_SOUP}' needs a command that scores", hint="--eval './score.sh {model}'")
    if search is not None and dry_run:
        raise UsageError("--dry-run computes nothing that could be scored")


def _merge(
    workspace: Workspace,
    branches: tuple[str, ...],
    options: MergeOptions,
    recipe: str | None,
    search: Search | None,
) -> MergeResult:
    if recipe is not None:
        asked = read_recipe(recipe)
        return merge_models(workspace, asked.choice, asked.models, asked.base, options)
    if search is not None:
        return merge_best(workspace, branches, options, search)
    if len(branches) == 1:
        return merge_branch(workspace, branches[0], options)
    return merge_branches(workspace, branches, options)


def _print(result: MergeResult) -> None:
    if result.status == "conflict":
        return  # git and the merge driver have said why
    if result.status == "staged":
        click.echo("merged and staged; conclude it with 'git commit'")
    elif result.status == "merged":
        click.echo(f"merged as {result.commit[:12]}")
    else:
        click.echo(result.status)
