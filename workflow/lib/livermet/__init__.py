"""livermet: from liver-metastasis biopsies to patient-level evidence on treatment response."""

__version__ = "0.1.0"
