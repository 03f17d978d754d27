"""What programs import: ``coral_git`` gives these names, each loaded when it is first used."""
