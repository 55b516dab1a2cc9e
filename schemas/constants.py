"""Constants by definition: that pipeline and simulator share them cannot hide a mistake."""

DAY = 86400.0  # s

# STAMP of all files made by `drp simulate`, and of the default reference library
SIMULATED = "drp simulation"

# name of the processor and of its task in the SOC's framework
PROCESSOR = TASK = "data_reduction"
