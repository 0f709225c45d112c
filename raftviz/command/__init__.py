"""The commands of the one language, a module for each family; ``raftviz.commands`` is its face."""
