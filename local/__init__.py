"""Embeds a small cloud on one machine, so that everything runs offline on real parts."""
