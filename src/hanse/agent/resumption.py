"""How who led a group begins again, when everything had ended in order.

The leader of term T served, its server was stopped in order, and its agent left a mark with T. If its pledge still says T, the
server is started as what it was, and leads in T without being chosen: an agent that was killed and finds its server leading
does the same (`Replica._resume`). This is within the argument of `replication/failover.py`, because

- the term has the same one leader, with the timeline that it was promoted to once, and the WAL that it had: one line;
- it serves only after all that it shows has reached the quorum again, and with a lease that followers pledged to T renew;
- earlier leaders' leases had run out when it served.

Who has been surpassed meanwhile would be fenced by the next leader's first word, with WAL of its own that has to be rewound. So it
asks the others first; those who do not answer are being started, too.
"""

from __future__ import annotations

import asyncio
import logging

from ..core.errors import UserMistake
from ..core.limits import HEARTBEAT_S
from ..engines.postgres.group_files import take_led_mark
from ..engines.postgres.instance import Instance
from ..replication.failover import Refusal
from ..replication.pledge import Heartbeat, Pledge
from .peers import Peers
from .tasks import in_thread

log = logging.getLogger(__name__)


async def begin_again(name: str, instance: Instance, pledge: Pledge, peers: Peers) -> bool:
    """Whether the server, which does not run, was started as the leader that it was."""
    if await in_thread(take_led_mark, instance) != pledge.term or pledge.leader != name:
        return False
    question = Heartbeat(pledge.term, pledge.attempt, name)
    others = (peers.ask(each, question, HEARTBEAT_S) for each in sorted(peers.names - {name}))
    if any(isinstance(answer, Refusal) for answer in await asyncio.gather(*others, return_exceptions=True)):
        return False
    log.info("%s led in term %d when it ended, and begins again", name, pledge.term)
    try:
        await in_thread(instance.bring_up)
    except (UserMistake, OSError) as error:
        log.warning("%s does not begin again: %s", name, error)
        return False
    return True
