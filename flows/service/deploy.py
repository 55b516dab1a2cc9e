"""Create everything of ours on a Prefect server: pools, queues, deployments, automations.

Run ``python -m flows.service.deploy`` with PREFECT_API_URL set; running it again updates them.
DRP_POOL names the pool of the visits, which may be of any type, DRP_CONTROL_POOL that of recovery,
intake and campaigns; they are created with processes of the worker's machine if they do not exist.
See `automations` for further variables.
"""

from __future__ import annotations

import os
import sys

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from flows.service import automations
from schemas import ROOT
from tasks.engine.child import start_python

POOLS = {"DRP_POOL": "drp", "DRP_CONTROL_POOL": "drp-control"}

# by queue: what is first if they are in one pool; an order or a single visit goes before campaigns
PRIORITIES = {"control": 1, "urgent": 2, "campaign": 50}


def create_pools(client: SyncPrefectClient, visits: str, control: str) -> None:
    """Create the pools that do not exist, and their queues.

    With SQLite, which holds no more, each queue of visits has one run at a time.
    """
    for name in dict.fromkeys((visits, control)):
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            made = WorkPoolCreate(name=name, type="process", base_job_template=template)
            client.create_work_pool(made)
    for queue, priority in PRIORITIES.items():
        pool = control if queue == "control" else visits
        limit = 1 if os.environ.get("DRP_SQLITE") and queue != "control" else None
        try:
            known = client.read_work_queue_by_name(queue, work_pool_name=pool)
        except ObjectNotFound:
            client.create_work_queue(
                queue, priority=priority, concurrency_limit=limit, work_pool_name=pool
            )
        else:
            client.update_work_queue(known.id, priority=priority, concurrency_limit=limit)


def main() -> int:
    """Create or update everything; return the exit code."""
    pools = [os.environ.setdefault(name, usual) for name, usual in POOLS.items()]
    with get_client(sync_client=True) as client:
        create_pools(client, *pools)
    file = str(ROOT / "flows" / "service" / "prefect.yaml")
    command = ["-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file]
    if code := start_python(command, folder=ROOT, output=1, errors=2).wait():
        return code
    automations.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
