"""Names of the models of an experiment: "base", "global", "best", or "local:SITE".

"local:SITE" is the local-only model of a site. The family of a model is its name without the site;
in a request to a site, and in figures over all sites, "local" is the local-only model of each.
"""

LOCAL = "local"
"""Family of the local-only models."""


def local_of(site: str) -> str:
    """Name of a site's local-only model."""
    return f"{LOCAL}:{site}"


def family_of(model: str) -> str:
    """Family of a model: base, global, best or local."""
    return model.partition(":")[0]


def home_of(model: str) -> str | None:
    """The site of a local-only model; None for a model of all sites."""
    return model.partition(":")[2] or None
