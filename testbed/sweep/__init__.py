"""Campaigns: one experiment at many points of its parameters, resumable, on processes or a cluster."""
