"""Prefect on this machine: server, worker, deployments, automations."""
