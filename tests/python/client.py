"""A client in another language, from the published protos alone.

    python client.py ENDPOINT SEED [--ca FILE --cert FILE --key FILE --name NAME]

ENDPOINT is the client port of any node, SEED any server of a topology with at least one replica. The client discovers
the topology, watches, triggers a failover, follows it to its end, acknowledges it, and resumes its watch; it checks
what it sees on the way. It changes who is primary. The last line of its output is a JSON object; exit 0 if all held,
1 if something did not (the object says what), 2 if nobody could be reached.
"""

import argparse
import importlib
import json
import pathlib
import queue
import sys
import tempfile
import threading
import time
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc

PROTOS = pathlib.Path(__file__).resolve().parents[2] / "proto"
NAMES = ["common", "topology", "recovery", "operations", "policy", "nodes", "events"]
PATIENCE_S = 60


def stubs(folder):
    """Generates the stubs as any client would, and imports them."""
    files = [f"quorate/v1/{name}.proto" for name in NAMES]
    args = ["protoc", f"-I{PROTOS}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(args + files) != 0:
        raise SystemExit("the protos do not compile")
    sys.path.insert(0, folder)
    modules = {}
    for name in NAMES:
        modules[name] = importlib.import_module(f"quorate.v1.{name}_pb2")
        modules[name + "_grpc"] = importlib.import_module(f"quorate.v1.{name}_pb2_grpc")
    return modules


class Wrong(Exception):
    """Something is not as the protos promise."""


def check(holds, what):
    if not holds:
        raise Wrong(what)


def reason_of(error):
    """Reason and metadata from google.rpc.ErrorInfo."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason, dict(info.metadata)
    return "", {}


class Watcher:
    """Reads batches in a thread; remembers events and the cursor."""

    def __init__(self, v1, channel, from_index=0):
        self.queue = queue.Queue()
        self.events = []
        self.next_index = from_index
        stub = v1["events_grpc"].EventsStub(channel)
        self.call = stub.WatchEvents(v1["events"].WatchEventsRequest(from_index=from_index))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for batch in self.call:
                self.queue.put(batch)
        except grpc.RpcError as error:
            self.queue.put(error)

    def until(self, wanted, what):
        """Reads until an event satisfies `wanted`."""
        deadline = time.monotonic() + PATIENCE_S
        seen = 0
        while True:
            for event in self.events[seen:]:
                if wanted(event):
                    return event
            seen = len(self.events)
            try:
                batch = self.queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Wrong(f"no event in {PATIENCE_S} s: {what}") from None
            if isinstance(batch, grpc.RpcError):
                raise Wrong(f"the watch ended while waiting for {what}: {batch.details()}")
            check(batch.next_index >= self.next_index, "the cursor goes back")
            self.next_index = batch.next_index
            self.events.extend(batch.events)


def open_channel(args):
    if not args.ca:
        return grpc.insecure_channel(args.endpoint)
    read = lambda path: pathlib.Path(path).read_bytes() if path else None
    credentials = grpc.ssl_channel_credentials(read(args.ca), read(args.key), read(args.cert))
    options = [("grpc.ssl_target_name_override", args.name)] if args.name else []
    return grpc.secure_channel(args.endpoint, credentials, options)


def discover(v1, channel, seed):
    """The same request id twice is one discovery."""
    topology = v1["topology_grpc"].TopologyStub(channel)
    request = v1["topology"].DiscoverRequest(address=seed, request_id=str(uuid.uuid4()), by="python")
    first = topology.Discover(request, timeout=PATIENCE_S)
    again = topology.Discover(request, timeout=PATIENCE_S)
    check(first.cluster == again.cluster, "a repeated request id found another cluster")
    check(len(first.members) >= 2, f"a failover needs a replica; found {len(first.members)} members")
    return first.cluster


def look(v1, channel, cluster):
    """The cluster once every member has been seen by a node."""
    topology = v1["topology_grpc"].TopologyStub(channel)
    request = v1["topology"].GetClusterRequest(cluster=cluster)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = topology.GetCluster(request, timeout=PATIENCE_S)
        if found.primary and all(m.status == "ok" for m in found.members):
            return found
        check(time.monotonic() < deadline, f"not all is well: {[(m.address, m.status) for m in found.members]}")
        time.sleep(0.2)


def wrong_name(v1, channel):
    """Errors have a canonical code and a reason."""
    topology = v1["topology_grpc"].TopologyStub(channel)
    try:
        topology.GetCluster(v1["topology"].GetClusterRequest(cluster="no-such-cluster"), timeout=PATIENCE_S)
    except grpc.RpcError as error:
        reason, metadata = reason_of(error)
        check(error.code() == grpc.StatusCode.NOT_FOUND, f"code {error.code()}")
        check(reason == "NOT_FOUND" and metadata["name"] == "no-such-cluster", f"{reason} {metadata}")
        return
    raise Wrong("a cluster that does not exist was found")


def fail_over(v1, channel, cluster):
    """Plans, starts (twice, with one id), waits for the end."""
    recovery = v1["recovery_grpc"].RecoveryStub(channel)
    pb = v1["recovery"]
    waive = [pb.WAIVER_VERDICT, pb.WAIVER_BLOCK, pb.WAIVER_LOSS]
    dry = pb.FailoverRequest(cluster=cluster, waive=waive, validate_only=True, by="python")
    plan = recovery.Failover(dry, timeout=PATIENCE_S).plan
    check(plan.new_primary, f"nobody can be promoted: {[(c.address, c.why) for c in plan.considered]}")
    request = pb.FailoverRequest(cluster=cluster, waive=waive, request_id=str(uuid.uuid4()), by="python")
    started = recovery.Failover(request, timeout=PATIENCE_S).recovery
    again = recovery.Failover(request, timeout=PATIENCE_S).recovery
    check(started.id == again.id, f"one request id, two failovers: {started.id} and {again.id}")
    deadline = time.monotonic() + PATIENCE_S
    record = started
    while record.state == pb.RECOVERY_STATE_RUNNING:
        check(time.monotonic() < deadline, f"recovery {started.id} does not end")
        record = recovery.WaitRecovery(pb.WaitRecoveryRequest(recovery=started.id, timeout_ms=5000), timeout=PATIENCE_S)
    check(record.state == pb.RECOVERY_STATE_SUCCEEDED, f"recovery {record.id} ended otherwise: {record.reason}")
    check(record.new_primary not in ("", record.old_primary), "the primary did not change")
    check(record.requested_by == "python" and record.kind == pb.KIND_FORCED, "it does not say who asked")
    return record


def acknowledge(v1, channel, record):
    recovery = v1["recovery_grpc"].RecoveryStub(channel)
    pb = v1["recovery"]
    request = pb.AcknowledgeRequest(
        recovery=record.id, comment="the client's own", request_id=str(uuid.uuid4()), by="python"
    )
    done = recovery.Acknowledge(request, timeout=PATIENCE_S)
    check(list(done.acknowledged) == [record.id], f"acknowledged {list(done.acknowledged)}")
    again = recovery.Acknowledge(request, timeout=PATIENCE_S)
    check(list(again.acknowledged) == [record.id], "a repetition got another answer")
    after = recovery.GetRecovery(pb.GetRecoveryRequest(recovery=record.id), timeout=PATIENCE_S)
    check(after.acknowledged.by == "python", "it does not say who acknowledged")


def resume(v1, channel, watcher, record):
    """Broken in the middle and resumed: the rest, without a gap and without a repetition."""
    mine = [e for e in watcher.events if e.recovery == record.id]
    middle = mine[len(mine) // 2].index
    second = Watcher(v1, channel, from_index=middle)
    second.until(lambda e: e.kind == "acknowledged" and e.recovery == record.id, "the resumed watch's end")
    key = lambda e: (e.index, e.part)
    wanted = [key(e) for e in watcher.events if e.index >= middle]
    got = [key(e) for e in second.events]
    check(got[: len(wanted)] == wanted, f"resumed at {middle}: {got} is not {wanted}")


def run(args, v1):
    channel = open_channel(args)
    try:
        grpc.channel_ready_future(channel).result(timeout=PATIENCE_S)
    except grpc.FutureTimeoutError:
        return 2, {"error": f"{args.endpoint} cannot be reached"}
    cluster = discover(v1, channel, args.seed)
    watcher = Watcher(v1, channel)
    wrong_name(v1, channel)
    before = look(v1, channel, cluster)
    record = fail_over(v1, channel, cluster)
    for kind in ("recovery_started", "decided", "published", "recovery_ended"):
        watcher.until(lambda e: e.kind == kind and e.recovery == record.id, kind)
    acknowledge(v1, channel, record)
    watcher.until(lambda e: e.kind == "acknowledged" and e.recovery == record.id, "acknowledged")
    resume(v1, channel, watcher, record)
    topology = v1["topology_grpc"].TopologyStub(channel)
    after = topology.GetCluster(v1["topology"].GetClusterRequest(cluster=cluster), timeout=PATIENCE_S)
    check(after.primary == record.new_primary, f"the cluster's record says {after.primary}")
    check(after.primary_epoch == before.primary_epoch + 1, "the primary epoch did not go up by one")
    return 0, {
        "cluster": cluster,
        "recovery": record.id,
        "old_primary": record.old_primary,
        "new_primary": record.new_primary,
        "took_ms": record.took_ms,
        "events": len(watcher.events),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoint")
    parser.add_argument("seed")
    for option in ("--ca", "--cert", "--key", "--name"):
        parser.add_argument(option)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        v1 = stubs(folder)
        try:
            code, answer = run(args, v1)
        except Wrong as wrong:
            code, answer = 1, {"error": str(wrong)}
        except grpc.RpcError as error:
            code, answer = 1, {"error": error.details(), "code": error.code().name, "reason": reason_of(error)[0]}
    print(json.dumps(answer))
    return code


if __name__ == "__main__":
    sys.exit(main())
