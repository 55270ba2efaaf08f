"""Pages and texts are made from Jinja2 templates, with the same rules everywhere."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def template_environment(folder: Path, *, html: bool) -> Environment:
    """The environment of the templates in a folder. An undefined name in a template is an error.

    Parameters
    ----------
    folder
        Folder of the templates.
    html
        Whether the templates make HTML, in which all values are escaped.
    """
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
