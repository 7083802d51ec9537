"""Figures of the workflow: data frames in, matplotlib figures out."""
