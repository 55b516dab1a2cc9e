"""What went wrong, in a sentence, and what to do about it: one table by kind of error."""

from __future__ import annotations

from schemas.errors import (
    BadInputError,
    CannotCreateError,
    ConfigurationError,
    DrpError,
    MissingInputError,
    NoScienceDataError,
    SelfCheckError,
    StorageError,
    plain,
)

_AGAIN = "Then run the same command again: steps that were done are found, and not done again."

_ORDER_AGAIN = "Then hand the order in again."

_GONE = "They were scratch of the order, and are gone: drp reduce keeps them in its work folder."

_ADVICE = {
    "events": "Look at the raw images, and at EARTH_OCCULTATION and SAA_FLAG in the visit "
    "constraints: if they say the "
    "truth, the visit has nothing to measure. A new delivery of raw data or constraints can be "
    "reduced as usual.",
    "look": "Look at the calibrated images: is the target in the window, and near "
    "TARGET_LOCATION_X and _Y of the planned "
    "visit (MPS_PRE_Visits)?",
    "quality": "The flags of every image stand in the column QUALITY of the terms listed "
    "below; what most images have in "
    "common is the reason.",
}

_REASONS: tuple[tuple[type[DrpError], str, str], ...] = (
    (NoScienceDataError, "there are no science data", ""),
    (
        BadInputError,
        "an input is damaged",
        "The error names the file and the place in it. Put a sound copy in its place, or "
        "another reference.",
    ),
    (
        MissingInputError,
        "an input is missing",
        "Put the file that the error names into the visit or a reference folder.",
    ),
    (
        CannotCreateError,
        "a file or folder cannot be created",
        "The error names the place. See that the account that runs drp may write there, or "
        "name another place: --output for "
        "products, --work for what comes between.",
    ),
    (StorageError, "reading or writing failed", "See that the disk is sound and has room."),
    (
        SelfCheckError,
        "a product did not read back as it was written",
        "See that the disk is sound.",
    ),
)

_OF_ORDERS: tuple[tuple[type[DrpError], str, str], ...] = (
    (
        BadInputError,
        "a file of the order is damaged, or not what the order says",
        "The error names the file. Put a sound copy in its place, or name the right file or "
        "File_Type in the order.",
    ),
    (
        MissingInputError,
        "a file of the order is missing",
        "Put the file where the order says, or name it in the order.",
    ),
    (
        CannotCreateError,
        "a file or folder cannot be created",
        "The error names the place. See that the account that runs drp may write there, or "
        "name another place in the order: "
        "OUT is for products, TMP for scratch. Where a version is taken, name another by "
        "PROC_NUM_OUT of the trigger file, or "
        "by the parameter proc_num.",
    ),
    (ConfigurationError, "the job order is wrong", "Correct in the order what the error names."),
    *_REASONS,
)

_FAULT = (
    "the program failed",
    "This is a fault of the program and not of the visit. Report it with the crash file that "
    "the ERROR line names, and with "
    "this report. With a corrected program the same command goes on from the last of the steps "
    "listed below.",
)

_ORDER_FAULT = (
    _FAULT[0],
    "This is a fault of the program and not of the order. Report it with the crash file that "
    "the ERROR line names, and with "
    "this report. With a corrected program hand the order in again.",
)


def explain(error: Exception, step: str, of_order: bool = False) -> tuple[str, str]:
    """Return in a few words why a visit was not reduced, and what to do about it."""
    for kind, words, advice in _OF_ORDERS if of_order else _REASONS:
        if isinstance(error, kind):
            if not advice:
                advice = _ADVICE.get(step, _ADVICE["quality"])
                return words, f"{advice} {_GONE}" if of_order and step != "events" else advice
            return words, f"{advice} {_ORDER_AGAIN if of_order else _AGAIN}"
    return _ORDER_FAULT if of_order else _FAULT


def error_text(error: Exception) -> str:
    """Return what an error says."""
    return str(error) if isinstance(error, DrpError) else f"{type(error).__name__}: {plain(error)}"
