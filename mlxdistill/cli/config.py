"""`mlxdistill config show|schema`: every resolved value with its origin, and the schema of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from mlxdistill.cli.options import AsJson, ConfigFile, Debug, Settings

if TYPE_CHECKING:
    from mlxdistill.config.problems import KeyPath


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Look at configurations.", rich_markup_mode=None, no_args_is_help=True)
    group.command("show")(show)
    group.command("schema")(schema)
    app.add_typer(group, name="config")


def show(config: ConfigFile, settings: Settings = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Print each resolved value and where it came from."""
    import json

    from mlxdistill.cli.console import print_json, print_lines
    from mlxdistill.config.load import load_config

    loaded = load_config(config, settings or ())
    leaves = _leaves((), loaded.config.model_dump(mode="json"))
    values = [(".".join(map(str, key)), value, loaded.origin(key)) for key, value in leaves]
    if as_json:
        print_json({key: {"value": value, "origin": origin} for key, value, origin in values})
        return
    width = max(len(key) for key, _, _ in values)
    print_lines(
        [f"{key:<{width}}  {json.dumps(value, ensure_ascii=False):<32}  {origin}" for key, value, origin in values]
    )


def schema() -> None:
    """Print the JSON Schema of a configuration, for editors."""
    from mlxdistill.cli.console import print_json
    from mlxdistill.config.models import Config

    print_json(Config.model_json_schema())


def _leaves(path: KeyPath, value: Any) -> list[tuple[KeyPath, Any]]:
    """Every value with its path; a list is a value, unless it is one of sections."""
    if isinstance(value, dict) and value:
        return [leaf for key, child in value.items() for leaf in _leaves((*path, key), child)]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [leaf for index, item in enumerate(value) for leaf in _leaves((*path, index), item)]
    return [(path, value)]
