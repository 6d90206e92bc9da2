"""Parameters of virtual patients: the free ones, those that follow from them, and the body at rest.

The average adult is the geometric mean of the ten adults of simglucose 0.2.11 (MIT licence), whose table
vpatient_params.csv has the 30 virtual patients of the UVa/Padova simulator's academic version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.envs.domain import Covariate
from persim_gym.task import Array

PARAMETERS = (
    "BW", "kabs", "kmax", "kmin", "b", "d", "f", "kp1", "kp2", "kp3", "Fsnc", "ke1", "ke2", "k1", "k2", "Vm0", "Vmx",
    "Km0", "m1", "m2", "m4", "m30", "ka1", "ka2", "kd", "Vi", "Ib", "p2u", "ki", "ksc",
)  # fmt: skip
"""Parameters in the order in which the compiled equations read them, by the names of simglucose's table."""

AVERAGE_ADULT: Mapping[str, float] = {
    "BW": 84.6,  # body weight, kg
    "EGPb": 2.488,  # glucose that the fasting liver makes, mg/kg/min
    "Gb": 142.6,  # fasting glucose at basal insulin, mg/dL
    "Vg": 1.843,  # volume that glucose fills, dL/kg
    "Vi": 0.05089,  # volume that insulin fills, L/kg
    "CL": 1.156,  # clearance of insulin, L/min
    "HEb": 0.6,  # share of insulin that the liver keeps
    "m1": 0.1892,  # 1/min
    "kabs": 0.1340,  # gut to plasma, 1/min
    "kmax": 0.03708,  # fastest emptying of the stomach, 1/min
    "kmin": 0.006491,  # slowest, 1/min
    "b": 0.7773,  # share of a meal left in the stomach at which emptying begins to slow down
    "d": 0.1677,  # and at which it is fast again
    "f": 0.9,  # share of carbohydrates that reaches plasma
    "kp2": 0.003877,  # the liver's effectiveness, 1/min
    "kp3": 0.008431,  # insulin's action on the liver, mg/kg/min per pmol/L
    "ki": 0.007475,  # its delay, 1/min
    "Fsnc": 1.0,  # uptake that needs no insulin, mg/kg/min
    "ke1": 0.0005,  # excretion by the kidneys, 1/min
    "ke2": 339.0,  # and above which amount, mg/kg
    "k1": 0.06006,  # plasma to slow tissues, 1/min
    "k2": 0.1198,  # and back, 1/min
    "Vmx": 0.04582,  # insulin's action on uptake, mg/kg/min per pmol/L
    "Km0": 235.7,  # mg/kg
    "p2u": 0.03223,  # its delay, 1/min
    "ka1": 0.003278,  # injected insulin to plasma, 1/min
    "kd": 0.01582,  # injected to dissolved, 1/min
    "ka2": 0.01526,  # dissolved to plasma, 1/min
    "ksc": 0.09211,  # plasma to the glucose under the skin, 1/min
}  # fmt: skip
"""Free parameters, by the names of simglucose's table."""

BASAL_RATE = 1.23  # U/h, geometric mean of the ten adults
GLUCOSE_VOLUME = AVERAGE_ADULT["Vg"]
FASTING_GLUCOSE = AVERAGE_ADULT["Gb"]

COVARIATES = (
    Covariate("weight", 55.0, 110.0, AVERAGE_ADULT["BW"], "kg"),
    Covariate("basal_rate", 0.8, 1.7, BASAL_RATE, "U/h"),
    Covariate("insulin_sensitivity", 0.5, 2.0, 1.0),
    Covariate("insulin_absorption", 0.65, 1.5, 1.0),
    Covariate("insulin_action", 0.5, 1.8, 1.0),
    Covariate("meal_absorption", 0.6, 1.6, 1.0),
    Covariate("glucose_production", 0.8, 1.3, 1.0),
)
"""What a person could name: `basal_rate` is the insulin that holds fasting glucose, the rest is relative to the average
adult."""


@dataclass(frozen=True)
class Patients:
    """Virtual patients, at rest under their basal insulin.

    Attributes:
        params: Parameters in the order of `PARAMETERS`, [B, 30].
        rest: Amounts in the body that basal insulin holds for ever, [B, 13].
        basal: Basal insulin, U/h, [B].
    """

    params: NDArray[np.float64]
    rest: NDArray[np.float64]
    basal: NDArray[np.float64]


def patients(
    weight: Array,
    basal_rate: Array,
    insulin_sensitivity: Array,
    insulin_absorption: Array,
    insulin_action: Array,
    meal_absorption: Array,
    glucose_production: Array,
) -> Patients:
    """Virtual patients of covariates, floats or arrays [B] each, in the units of `COVARIATES`.

    Args:
        weight: Body weight, kg.
        basal_rate: Insulin that holds fasting glucose, U/h.
        insulin_sensitivity: Of uptake and of the liver, relative.
        insulin_absorption: Speed at which insulin leaves the skin, relative.
        insulin_action: Speed at which insulin in plasma begins and ceases to act, relative.
        meal_absorption: Speed of stomach and gut, relative.
        glucose_production: Glucose that the fasting liver makes, relative.
    """
    scaled = {
        "BW": weight / AVERAGE_ADULT["BW"],
        **dict.fromkeys(("Vmx", "kp3"), insulin_sensitivity),
        **dict.fromkeys(("ka1", "kd", "ka2"), insulin_absorption),
        **dict.fromkeys(("p2u", "ki"), insulin_action),
        **dict.fromkeys(("kabs", "kmax", "kmin"), meal_absorption),
        "EGPb": glucose_production,
    }
    free = {name: value * np.asarray(scaled.get(name, 1.0)) for name, value in AVERAGE_ADULT.items()}
    # At rest clearance balances the basal rate.
    free["Ib"] = basal_rate * 100.0 / free["CL"]  # pmol/L of U/h: 6000 pmol a unit, 60 min an hour
    return at_rest(free)


def at_rest(free: Mapping[str, Any]) -> Patients:
    """Virtual patients of their free parameters: those that follow are such that the body can be at rest.

    Args:
        free: The parameters of `AVERAGE_ADULT` and the insulin at rest, `Ib` (pmol/L); floats or arrays [B].

    Source: Dalla Man, Rizza and Cobelli (2007), "Meal simulation model of the glucose-insulin system", equations of the
    basal steady state.
    """
    q = dict(free)
    q["m2"] = 0.6 * q["CL"] / (q["HEb"] * q["Vi"] * q["BW"])
    q["m4"] = 0.4 * q["CL"] / (q["Vi"] * q["BW"])
    q["m30"] = q["m1"] * q["HEb"] / (1.0 - q["HEb"])
    glucose, insulin = q["Gb"] * q["Vg"], q["Ib"] * q["Vi"]
    liver = q["m2"] * insulin / (q["m1"] + q["m30"])
    flow = (q["m2"] + q["m4"]) * insulin - q["m1"] * liver  # of insulin, pmol/kg/min
    injected = flow / (q["ka1"] + q["kd"])
    tissue = (q["Fsnc"] - q["EGPb"] + q["k1"] * glucose) / q["k2"]
    q["Vm0"] = (q["EGPb"] - q["Fsnc"]) * (q["Km0"] + tissue) / tissue
    q["kp1"] = q["EGPb"] + q["kp2"] * glucose + q["kp3"] * q["Ib"]
    amounts = (
        0.0, 0.0, 0.0, glucose, tissue, insulin, 0.0, q["Ib"], q["Ib"], liver, injected, q["kd"] * injected / q["ka2"],
        glucose,
    )  # fmt: skip
    # [parameters and amounts and basal rate, B]
    every = np.stack(np.broadcast_arrays(*(q[name] for name in PARAMETERS), *amounts, flow * q["BW"] / 100.0))
    every = every.reshape(len(every), -1)
    params, rest, basal = np.split(every, [len(PARAMETERS), len(every) - 1])
    return Patients(np.ascontiguousarray(params.T), np.ascontiguousarray(rest.T), basal[0])
