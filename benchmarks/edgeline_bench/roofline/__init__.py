"""The roofline's ceilings: what this machine computes and reads at most, measured, never looked up.

`measure_ceilings` is the way in (ceilings.py). What layers do below the ceilings is not here.
"""
