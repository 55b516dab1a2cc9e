"""Why a visit was not reduced and what to do about it, by kind of error."""

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
    disk_failure,
    plain,
)

_AGAIN = "Then run the same command again; steps that are done are not repeated."

_ORDER_AGAIN = "Then submit the order again."

_DELETED = (
    "The intermediate products of an order are temporary and have been deleted; drp reduce keeps "
    "them in its work folder."
)

_BY_STEP = {
    "events": "Check the raw images, and EARTH_OCCULTATION and SAA_FLAG in the visit constraints. "
    "If these are right, there is nothing to measure in this visit. A new delivery of raw data or "
    "constraints can be reduced as usual.",
    "look": "Check the calibrated images: is the target inside the window, and close to "
    "TARGET_LOCATION_X and TARGET_LOCATION_Y of the planned visit (MPS_PRE_Visits)?",
    "quality": "The flags of each image are in the column QUALITY of the terms listed below; look "
    "for the flags that most images share.",
}

_NO_ACCESS = (
    "The error message names the path. Make sure that the account running drp may write there, or "
    "choose another place"
)

_REASONS: tuple[tuple[type[DrpError], str, str], ...] = (
    (NoScienceDataError, "no usable science data", ""),
    (
        BadInputError,
        "an input is damaged",
        "The error message names the file and the place in it. Replace the file with an intact "
        "copy, or use another reference.",
    ),
    (
        MissingInputError,
        "an input is missing",
        "Put the file named in the error message into the visit folder or a reference folder.",
    ),
    (
        CannotCreateError,
        "a file or folder cannot be created",
        f"{_NO_ACCESS}: --output for products, --work for intermediate products.",
    ),
    (
        StorageError,
        "reading or writing failed",
        "Check that the disk is healthy and has free space.",
    ),
    (
        SelfCheckError,
        "a product did not read back as it was written",
        "Check that the disk is healthy.",
    ),
)

_OF_ORDERS: tuple[tuple[type[DrpError], str, str], ...] = (
    (
        BadInputError,
        "a file of the order is damaged or of the wrong type",
        "The error message names the file. Replace it with an intact copy, or correct the file "
        "name or File_Type in the order.",
    ),
    (
        MissingInputError,
        "a file of the order is missing",
        "Put the file where the order expects it, or add it to the order.",
    ),
    (
        CannotCreateError,
        "a file or folder cannot be created",
        f"{_NO_ACCESS} in the order: OUT for products, TMP for temporary files. If the version "
        "exists already, choose another with PROC_NUM_OUT in the trigger file or with the "
        "parameter proc_num.",
    ),
    (
        ConfigurationError,
        "the job order is invalid",
        "Correct the entry of the order that the error message names.",
    ),
    *_REASONS,
)

_BUG = "Please report it with the crash file named in the ERROR line, and with this report."

_FAULT = (
    "the program failed",
    f"This is a bug in the program, not a problem of the visit. {_BUG} Once the program is fixed, "
    "the same command resumes after the last step listed below.",
)

_ORDER_FAULT = (
    _FAULT[0],
    f"This is a bug in the program, not a problem of the order. {_BUG} Once the program is fixed, "
    "submit the order again.",
)


def explain(error: Exception, step: str, of_order: bool = False) -> tuple[str, str]:
    """Return why a visit was not reduced, in a few words, and what to do about it."""
    fault = not isinstance(error, DrpError) and disk_failure(error)
    for kind, words, advice in _OF_ORDERS if of_order else _REASONS:
        if isinstance(error, kind) or (fault and kind is StorageError):
            if not advice:
                advice = _BY_STEP.get(step, _BY_STEP["quality"])
                return words, f"{advice} {_DELETED}" if of_order and step != "events" else advice
            return words, f"{advice} {_ORDER_AGAIN if of_order else _AGAIN}"
    return _ORDER_FAULT if of_order else _FAULT


def error_text(error: Exception) -> str:
    """Return the message of an error; errors that are not ours with their type."""
    return str(error) if isinstance(error, DrpError) else f"{type(error).__name__}: {plain(error)}"
