"""Flags: the digits of EVENT and the bits of QUALITY."""

from __future__ import annotations

from enum import IntFlag

# Decimal digits of EVENT: the value of one unit in each place.
EVENT_SAA = 1
EVENT_TEMPERATURE = 10
EVENT_EARTH = 100
EVENT_MOON = 1_000
EVENT_SUN = 10_000
EVENT_COSMIC_RAYS = 100_000
EVENT_DIGITS = (
    EVENT_SAA,
    EVENT_TEMPERATURE,
    EVENT_EARTH,
    EVENT_MOON,
    EVENT_SUN,
    EVENT_COSMIC_RAYS,
)  # in order

EARTH_STRAY_LIGHT = 1  # stray light above its threshold, or limb below the soft limit
EARTH_HARD_LIMIT = 2
EARTH_OCCULTED = 9


class Quality(IntFlag):
    """QUALITY of one image: why a point may be bad; 0 is good.

    The bits are our own, not the SOC's.
    """

    SAA = 1 << 0
    OCCULTED = 1 << 1
    STRAY_LIGHT = 1 << 2
    TEMPERATURE = 1 << 3
    SUN_OR_MOON = 1 << 4
    COSMIC_RAYS = 1 << 5
    UNUSABLE_IMAGE = 1 << 6  # damaged: lost, repeated or saturated in large part; or no star
    DUPLICATE_TIME = 1 << 8
    HOUSEKEEPING = 1 << 9  # a voltage or temperature is missing or replaced, or the gain in doubt
    POINTING = 1 << 10  # no attitude, or the star is far from its expected position
    BACKGROUND = 1 << 11  # background spike
    MARGIN = 1 << 12  # the margins do not give the bias of this image
    CENTROID = 1 << 13  # the position could not be measured
    NO_STACK = 1 << 14  # imagette of no stack; the conditions are those of the nearest one
    GRADIENT = 1 << 15  # background much brighter on one side
    LOST_PIXELS = 1 << 16  # some pixels are lost or impossible; they are masked
    SATURATED = 1 << 17  # pixels of the star are saturated
    APERTURE = 1 << 18  # part of the aperture R25 is outside of the image, lost or modelled


UNUSABLE = Quality.SAA | Quality.OCCULTED | Quality.UNUSABLE_IMAGE


# codes of the bad pixel map: dead, partially dead, good, hot, saturated, telegraphic
BAD_PIXEL_CODES = (-2, -1, 0, 1, 2, 3)


class PixelFlag(IntFlag):
    """Flags of a pixel of the window over the whole visit; 0 is good."""

    HOT = 1 << 0  # a steady excess was subtracted
    TELEGRAPHIC = 1 << 1  # jumps between two levels
    DEAD = 1 << 2  # records hardly any light; replaced by the model
    COSMIC_RAYS = 1 << 3  # hit in at least one image
    MAP_HOT = 1 << 4
    MAP_TELEGRAPHIC = 1 << 5
    MAP_DEAD = 1 << 6
    MAP_PARTIALLY_DEAD = 1 << 7
    MAP_SATURATED = 1 << 8
    OUTSIDE = 1 << 9  # outside the window
    SATURATED = 1 << 10  # in at least one image
