"""Automations of the server: detect lost runs, resume them, report failures, take in job orders.

Run ``python -m flows.service.automations`` with PREFECT_API_URL set, once the deployments exist.
Running it again replaces the automations. The environment variable DRP_NOTIFY_URL is the web hook
for failures, a secret of the site. DRP_INTAKE is the folder where job orders arrive; it is checked
every minute.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture
from pydantic import SecretStr

from flows.runs.ending import read_seconds
from flows.service.deployments import FAILED, NEEDS_PERSON, OURS
from tasks.files import disk

# three heartbeats of 30 s, Prefect's minimum; a lost run is detected within two minutes
LOST_SECONDS = 90

PREFIX = "drp: "

WEBHOOK = "drp-notify"

PAYLOAD = (
    '{"event": "{{ event.event }}", "run": "{{ event.payload.name }}", "error": {{ '
    "event.payload.error | tojson }}, "
    + ('"exit_code": {{ event.payload.exit_code }}, "id": "{{ event.payload.run }}"}')
)


def detect_lost(deployments: list[UUID], seconds: float) -> Iterator[Automation]:
    """Yield automations that mark silent runs as crashed.

    A run is silent if it sends no event after its start or after its last heartbeat. A run that a
    worker has taken but not started would wait for ever.
    """
    ours = {
        "prefect.resource.role": "deployment",
        "prefect.resource.id": [f"prefect.deployment.{deployment}" for deployment in deployments],
    }
    silences = {"Running": seconds, "heartbeat": seconds, "Pending": 4 * seconds}
    if os.environ.get("DRP_SQLITE"):
        del silences["Pending"]  # every further trigger is a load; the keeper looks for them
    for since, within in silences.items():
        yield Automation(
            name=f"{PREFIX}lost since {since}",
            description="A run that is silent has lost its process or its worker.",
            trigger=EventTrigger(
                posture=Posture.Proactive,
                after={f"prefect.flow-run.{since}"},
                expect={"prefect.flow-run.*"},
                match={"prefect.resource.id": "prefect.flow-run.*"},
                match_related=ours,
                for_each={"prefect.resource.id"},
                threshold=1,
                within=timedelta(seconds=within),
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    name="Lost",
                    message="no sign of life: the process or its worker has died",
                )
            ],
        )


def resume_crashed(deployments: list[UUID], recover: UUID) -> Automation:
    """Return the automation that resumes crashed runs with the deployment `recover`."""
    return Automation(
        name=f"{PREFIX}resume",
        description="Resume crashed runs from their records, at most three times.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={"prefect.flow-run.Crashed", "prefect.flow-run.Lost"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.role": "deployment",
                "prefect.resource.id": [
                    f"prefect.deployment.{deployment}" for deployment in deployments
                ],
            },
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[RunDeployment(source="selected", deployment_id=recover, parameters={})],
    )


def notify_failures(block: UUID) -> Automation:
    """Return the automation that reports failed runs to a web hook."""
    return Automation(
        name=f"{PREFIX}notify",
        description="Report runs that have failed or need an operator.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={FAILED, NEEDS_PERSON},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[CallWebhook(block_document_id=block, payload=PAYLOAD)],
    )


def main() -> None:
    """Replace the automations on the server."""
    seconds = read_seconds("DRP_LOST_SECONDS", LOST_SECONDS)
    with get_client(sync_client=True) as client:
        ours = [
            deployment.id for deployment in client.read_deployments() if OURS in deployment.tags
        ]
        recover = client.read_deployment_by_name("recover/recover").id
        if folder := os.environ.get("DRP_INTAKE"):
            intake = client.read_deployment_by_name("intake/intake").id
            for schedule in client.read_deployment_schedules(intake):
                parameters = {"request": {"folder": str(disk.absolute(Path(folder)))}}
                client.update_deployment_schedule(
                    intake, schedule.id, active=True, parameters=parameters
                )
        automations = [*detect_lost(ours, seconds), resume_crashed(ours, recover)]
        if url := os.environ.get("DRP_NOTIFY_URL"):
            block = Webhook(method="POST", url=SecretStr(url))
            automations.append(notify_failures(cast("UUID", block.save(WEBHOOK, overwrite=True))))
        for old in client.read_automations():
            if old.name.startswith(PREFIX):
                client.delete_automation(old.id)
    for automation in automations:
        automation.create()


if __name__ == "__main__":
    main()
