"""Stray light: light of the bright Earth that passes the baffle, the same in every pixel.

S = S0 exp(-angle / angle_e) lit, where angle is the angle between the line of sight and the nearest
point of the limb (0 when behind it), and lit is the sunlit fraction of the visible limb: its points
have weights exp(-(angle_i - angle) / angle_e), with their own angles to the line of sight, and each
is lit by 1 / (1 + exp(-h / 6 deg)), with h the height of the Sun above its horizon; 6 deg is civil
twilight. S0 and angle_e belong to the case. The model has two features of flight data, the steep
passages of the limb once per orbit and the seasons of a day and a night side; its numbers are
chosen, not fitted.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray

LIMB_RADIUS = 6378.137 + 100.0  # of the Earth with its atmosphere [km]
TWILIGHT = 6.0  # [deg]
POINTS = 48  # on the limb


def stray_light(
    position: FloatArray, target: FloatArray, sun: FloatArray, at_limb: float, angle: float
) -> FloatArray:
    """Return the stray light, shape (n,) [electron/s/pixel].

    Parameters
    ----------
    position : ndarray, shape (n, 3)
        Of the spacecraft relative to the centre of the Earth [km].
    target : ndarray, shape (3,)
        Direction of the line of sight, a unit vector.
    sun : ndarray, shape (3,) or (n, 3)
        Direction of the Sun, a unit vector.
    at_limb : float
        Light at a fully lit limb [electron/s/pixel].
    angle : float
        Angle over which the light falls by e [deg].
    """
    distance = np.linalg.norm(position, axis=1)
    zenith = position / distance[:, None]
    upwards = zenith @ target
    across = target - upwards[:, None] * zenith  # horizontal, towards the target
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    side = np.cross(zenith, across)
    cosine = LIMB_RADIUS / distance  # of the limb's dip below the horizontal
    sine = np.sqrt(1 - cosine**2)
    turn = 2 * np.pi * np.arange(POINTS)[:, None] / POINTS  # round the limb, from its nearest point
    apart = np.rad2deg(
        np.arccos(np.clip(cosine * np.cos(turn) * np.sqrt(1 - upwards**2) - sine * upwards, -1, 1))
    )
    sunwards = [np.sum(axis * sun, axis=-1) for axis in (zenith, across, side)]
    # sine of the height of the Sun
    height = cosine * sunwards[0] + sine * (np.cos(turn) * sunwards[1] + np.sin(turn) * sunwards[2])
    lit = 1 / (1 + np.exp(-np.rad2deg(np.arcsin(np.clip(height, -1, 1))) / TWILIGHT))
    weight = np.exp(-(apart - apart[0]) / angle)
    share = np.sum(weight * lit, axis=0) / np.sum(weight, axis=0)
    above = np.rad2deg(np.arcsin(np.clip(upwards, -1, 1)) + np.arccos(cosine))
    return np.asarray(at_limb * np.exp(-np.maximum(above, 0.0) / angle) * share)
