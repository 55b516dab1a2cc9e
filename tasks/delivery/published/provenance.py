"""The provenance of a published visit as PROV-JSON (W3C): what was made from what, by whom.

Entities are raw files, references, settings, steps' products and pages; activities are the
reduction and its steps; agents are the software and the institution of keyword ORIGIN. A manifest
lists the inputs of the run, not those of each step, so inputs are used by the reduction, and steps
are started by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas.manifest import FileEntry, ListedInventory, Manifest, StepEntry
from schemas.settings import PublicationSettings

Record = dict[str, Any]
Document = dict[str, dict[str, Any]]

PREFIXES = {
    "prov": "http://www.w3.org/ns/prov#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "drp": "urn:cheops-drp:terms:",
    "file": "urn:cheops-drp:file:",
    "input": "urn:cheops-drp:input:",
    "step": "urn:cheops-drp:step:",
    "run": "urn:cheops-drp:run:",
    "agent": "urn:cheops-drp:agent:",
}

SOFTWARE, INSTITUTION, SETTINGS = "agent:drp", "agent:origin", "run:settings"


def provenance(manifest: Manifest) -> Document:
    """Return the provenance of a publication as a PROV-JSON document."""
    reduction = f"run:{manifest.visit}_{manifest.version}"
    inputs = input_entities(manifest.inventory)
    steps = {step_id(entry): entry for entry in manifest.steps}
    files = {f"file:{file.name}": file for file in manifest.files}
    document: Document = {
        "prefix": PREFIXES,
        "entity": {
            **inputs,
            SETTINGS: settings_entity(manifest),
            **{name: file_entity(file) for name, file in files.items()},
        },
        "activity": {
            reduction: reduction_activity(manifest),
            **{name: step_activity(entry) for name, entry in steps.items()},
        },
        "agent": agents(manifest),
        "used": relations("used", {"prov:activity": reduction}, "prov:entity", [*inputs, SETTINGS]),
        "wasStartedBy": relations(
            "started", {"prov:starter": reduction}, "prov:activity", list(steps)
        ),
        "wasGeneratedBy": {
            f"_:generated{i}": {"prov:entity": name, "prov:activity": maker(file, steps)}
            for i, (name, file) in enumerate(files.items(), 1)
        },
        "wasDerivedFrom": relations(
            "derived",
            {"prov:usedEntity": f"input:{manifest.inventory.subarray.path}"},
            "prov:generatedEntity",
            [name for name, file in files.items() if file.step == "light_curves"],
        ),
        "wasAssociatedWith": relations(
            "associated",
            {"prov:agent": SOFTWARE, "prov:plan": SETTINGS},
            "prov:activity",
            [reduction, *steps],
        ),
        "actedOnBehalfOf": {
            "_:behalf1": {"prov:delegate": SOFTWARE, "prov:responsible": INSTITUTION}
        },
    }
    return {name: records for name, records in document.items() if records}


def step_id(entry: StepEntry) -> str:
    """Return the name of the activity of a step; its key sets steps apart that ran twice."""
    return f"step:{entry.step}-{entry.key[:12]}"


def maker(file: FileEntry, steps: Iterable[str]) -> str:
    """Return the activity that made a file; a page has no key, and its step ran once."""
    prefix = f"step:{file.step}-{file.key[:12]}"
    return next(name for name in steps if name.startswith(prefix))


def relations(name: str, same: Record, other: str, ids: Iterable[str]) -> dict[str, Record]:
    """Return one relation for each identifier in the role `other`."""
    return {f"_:{name}{i}": {**same, other: each} for i, each in enumerate(ids, 1)}


def input_entities(inventory: ListedInventory) -> dict[str, Record]:
    """Return the raw files and references of a run, by identifier."""
    found: dict[str, Record] = {}
    for field in type(inventory).model_fields:
        value = getattr(inventory, field)
        if hasattr(value, "sha256"):
            found[f"input:{value.path}"] = {
                "prov:type": "drp:raw",
                "drp:extname": value.extname,
                "drp:sha256": value.sha256,
            }
    for reference in (*inventory.references.values(), *inventory.dark_frames):
        found[f"input:{reference.product.path}"] = {
            "prov:type": "drp:reference",
            "prov:label": reference.kind,
            "drp:extname": reference.product.extname,
            "drp:sha256": reference.product.sha256,
            "drp:synthetic": reference.synthetic,
        }
    return found


def settings_entity(manifest: Manifest) -> Record:
    """Return the settings as an entity: the plan of the reduction."""
    values = {
        f"drp:{step}.{name}": value
        for step, settings in manifest.settings.items()
        for name, value in settings.items()
        if value not in (None, ())
    }
    return {"prov:type": {"$": "prov:Plan", "type": "prov:QUALIFIED_NAME"}, **values}


def file_entity(file: FileEntry) -> Record:
    """Return a published file as an entity."""
    return {"prov:label": file.product, "drp:sha256": file.sha256, "drp:bytes": file.bytes}


def reduction_activity(manifest: Manifest) -> Record:
    """Return the run as an activity; when it began is not recorded."""
    record: Record = {
        "prov:endTime": f"{manifest.published}Z",
        "prov:label": f"reduction of {manifest.visit}",
        "drp:version": manifest.version,
        "drp:identity": manifest.identity,
    }
    if manifest.baseline is not None:
        record["drp:baseline"] = manifest.baseline
    if manifest.verdict is not None:
        record["drp:verdict"] = manifest.verdict.word
    return record


def step_activity(entry: StepEntry) -> Record:
    """Return a step as an activity."""
    return {
        "prov:label": entry.step,
        "drp:version": entry.version,
        "drp:key": entry.key,
        "drp:outcome": entry.outcome,
        "drp:seconds": entry.seconds,
    }


def agents(manifest: Manifest) -> dict[str, Record]:
    """Return the software and the institution."""
    origin = PublicationSettings.model_validate(manifest.settings.get("publication", {})).origin
    packages = {f"drp:{name}": version for name, version in manifest.software.items()}
    kind = "prov:QUALIFIED_NAME"
    return {
        SOFTWARE: {
            "prov:type": {"$": "prov:SoftwareAgent", "type": kind},
            "prov:label": f"drp {manifest.software['drp']}",
            **packages,
        },
        INSTITUTION: {
            "prov:type": {"$": "prov:Organization", "type": kind},
            "prov:label": origin,
        },
    }
