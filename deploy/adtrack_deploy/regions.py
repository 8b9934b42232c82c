"""regions.json: where adtrack runs, and with which parameters."""

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "regions.json"
MEMBERS = {"deployment", "home_region", "parameters", "tracking_domain", "hosted_zone_id",
           "global_table", "regions"}


class RegionsError(Exception):
    """A file of regions that cannot be used."""


@dataclass(frozen=True)
class Region:
    """A region, with its parameters over those of all regions."""

    name: str
    parameters: dict


@dataclass(frozen=True)
class Rollout:
    """All regions, in the order in which they are deployed."""

    deployment: str
    home_region: str
    tracking_domain: str
    hosted_zone_id: str
    global_table: bool
    regions: tuple

    def refuse_examples(self):
        """Raises where a value of the example is still there."""
        for region in self.regions:
            for name, value in region.parameters.items():
                if "replace-me" in value:
                    raise RegionsError(f"{region.name}: {name} is still that of the example")

    def only(self, names):
        """The regions named, in the file's order; all where none is."""
        known = {region.name for region in self.regions}
        unknown = sorted(set(names) - known)
        if unknown:
            raise RegionsError(f"{', '.join(unknown)}: not in the file of regions")
        return [region for region in self.regions if not names or region.name in names]


def load(path=FILE):
    """Reads the file; the error says what is wrong with it."""
    try:
        data = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise RegionsError(f"{path}: {error}") from error
    unknown = sorted(set(data) - MEMBERS)
    missing = sorted({"deployment", "home_region", "regions"} - set(data))
    if unknown or missing:
        raise RegionsError(f"{path}: unknown {unknown}, missing {missing}")
    common = data.get("parameters", {})
    regions = tuple(
        Region(region["name"], {name: str(value) for name, value in
                                {**common, **region.get("parameters", {})}.items()})
        for region in data["regions"]
    )
    names = [region.name for region in regions]
    if len(set(names)) != len(names) or data["home_region"] not in names:
        raise RegionsError(f"{path}: a region is there twice, or home_region is not there")
    if bool(data.get("tracking_domain")) != bool(data.get("hosted_zone_id")):
        raise RegionsError(f"{path}: tracking_domain and hosted_zone_id go together")
    return Rollout(
        deployment=data["deployment"],
        home_region=data["home_region"],
        tracking_domain=data.get("tracking_domain", ""),
        hosted_zone_id=data.get("hosted_zone_id", ""),
        global_table=bool(data.get("global_table", False)),
        regions=regions,
    )
