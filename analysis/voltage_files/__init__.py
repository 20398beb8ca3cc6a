"""Voltage records of potentiostats: read, understood, converted.

Importing the package imports nothing.
"""
