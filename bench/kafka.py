"""The measuring of bench/kafka: see there. Run by it, with the broker up and the modules of services/tests to be found."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import transactions
from confluent_kafka import Consumer, KafkaError, TopicPartition
from runs import TRANSACTIONS, Run

ROOT = Path(__file__).parent.parent
RIVERRUN = os.environ["RIVERRUN"]
TICKS = os.sysconf("SC_CLK_TCK")


def services(*words):
    return subprocess.run([ROOT / "services" / "run", *words], check=True, capture_output=True, text=True).stdout


def broker():
    return next(row["pid"] for row in json.loads(services("status", "--json")) if row["name"] == "kafka.1")


def cpu(pid):
    """Seconds of processor that a process and its threads used so far (proc(5): utime and stime, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def tell_cpu(seconds, used):
    cores = os.cpu_count()
    for who, spent in used.items():
        print(f"    {who:<12} {spent:8.1f} s of processor   {100 * spent / seconds / cores:5.1f} % of {cores} cores")


@contextmanager
def folder():
    path = Path(tempfile.mkdtemp(prefix="riverrun-bench-"))
    yield path
    shutil.rmtree(path)


def variables(client, data, **more):
    return {"BUS": "kafka", "KAFKA_BROKERS": client["bootstrap.servers"], "LAKE": data / "data" / "lake", "SCREEN": "blackhole", **more}


def timed(script, data, given):
    """Runs a script over what is there; gives seconds from its first line to its end, and processor by who."""
    java, began_cpu = broker(), cpu(broker())
    with Run(RIVERRUN, script, data, "--bounded", "--profile", **given) as run:
        own = 0.0
        while run.process.poll() is None:
            try:
                own = cpu(run.process.pid)
            except (FileNotFoundError, ProcessLookupError):
                break
            time.sleep(0.02)
        assert run.ends() == 0, run.said()
        rate = re.search(r"([\d,]+) records \(([\d,]+) / s\)", run.said())
        records, per_second = (int(n.replace(",", "")) for n in rate.groups())
        return run.said(), records, per_second, {"riverrun": own, "broker": cpu(java) - began_cpu}


def throughput(arguments, client):
    with folder() as data:
        sample = transactions.generate(RIVERRUN, data / "transactions.jsonl", arguments.events, arguments.users)
        transactions.fresh_topics(client)
        began = time.monotonic()
        transactions.send(client, sample)
        print(f"{arguments.events:,} events sent by confluent-kafka in {time.monotonic() - began:.1f} s ({sample.stat().st_size >> 20} MiB)")
        reading = data / "reading.sql"
        reading.write_text(alone(TRANSACTIONS.read_text()))
        for name, script, more in (
            ("reader alone (Kafka, decode, nothing else)", reading, {}),
            ("Kafka to Kafka (no table, no lake)", TRANSACTIONS, {"AGGREGATES": "blackhole", "LAKE_CONNECTOR": "blackhole"}),
            ("all sinks: Kafka, table, Delta", TRANSACTIONS, {}),
        ):
            place = data / name[:6].strip()
            place.mkdir()
            transactions.delete_topics(client, transactions.TOPICS[1:])
            said, records, rate, used = timed(script, place, variables(client, place, **more))
            assert records == arguments.events
            print(f"\n== {name}\n    {rate:,} events/s")
            tell_cpu(records / rate, used)
            if arguments.profile:
                print(said)
        expected = transactions.Expected(sample)
        expected.check_alerts(transactions.topic_rows(client, "fraud-alerts"))
        expected.check_rapid(transactions.topic_rows(client, "rapid-transactions"))
        expected.check_rapid(transactions.ask(RIVERRUN, client, place / "data", "SELECT * FROM rapid_users"))
        expected.check_spending(transactions.ask(RIVERRUN, client, place / "data", "SELECT * FROM transaction_aggregates"))
        expected.check_lake(place / "data" / "lake" / "transactions")
        print("\nalerts, rapid windows, spending and the lake equal DuckDB's, row by row")


def alone(script):
    """The table `transactions` of the shipped script, and nothing but reading it."""
    table = re.search(r"CREATE TABLE transactions .*?\n\);", script, re.S).group()
    table = table.replace(", late_rows = 'too_late'", "")
    return table + "\nCREATE TABLE nothing WITH (connector = 'blackhole');\nINSERT INTO nothing SELECT * FROM transactions;\n"


def latency(arguments, client):
    with folder() as data:
        transactions.fresh_topics(client)
        java = broker()
        with Run(RIVERRUN, TRANSACTIONS, data, **variables(client, data, STARTING_OFFSETS="earliest")) as run:
            # The first member of an empty group waits some seconds for others.
            run.wait_for("this instance runs 10 of 10 tasks")
            alerts, stop = [], threading.Event()
            reader = threading.Thread(target=take_alerts, args=(client, alerts, stop))
            reader.start()
            command = [RIVERRUN, "generate", "transactions", "--brokers", client["bootstrap.servers"], "--rate", str(arguments.rate)]
            command += ["--users", str(arguments.users), "--duration", f"{arguments.seconds} seconds"]
            before = {"riverrun": cpu(run.process.pid), "broker": cpu(java), "this script": cpu(os.getpid())}
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
                generating = 0.0
                while generator.poll() is None:
                    try:
                        generating = cpu(generator.pid)
                    except (FileNotFoundError, ProcessLookupError):
                        break
                    time.sleep(0.1)
                sent = generator.stdout.read().splitlines()[0]
            used = {who: cpu(pid) - before[who] for who, pid in (("riverrun", run.process.pid), ("broker", java), ("this script", os.getpid()))}
            time.sleep(3)
            stop.set()
            reader.join()
            assert run.stop() == 0, run.said()
        print(f"\n== latency at {arguments.rate:,} events/s for {arguments.seconds} s, all sinks on; the generator: {sent}")
        tell_cpu(arguments.seconds, used | {"generator": generating})
        times = sent_times(client, {place for place, _ in alerts})
        begin = min(times.values())
        print("    by 10 s:" + "".join(f"  {second} s: {told(waits_between(alerts, times, begin, second, second + 10))}" for second in range(0, arguments.seconds, 10)))
        waits = waits_between(alerts, times, begin, arguments.warm, arguments.seconds + 60)
        assert len(waits) > 100, f"only {len(waits)} alerts"
        print(f"    {len(waits):,} alerts after the first {arguments.warm} s: {told(waits)}, most {waits[-1]:.0f} ms")


def waits_between(alerts, times, begin, first, last):
    """How long alerts were under way of which the transaction was sent in these seconds (milliseconds, least first)."""
    return sorted(received - times[place] for place, received in alerts if begin + first * 1000 <= times[place] < begin + last * 1000)


def told(waits):
    at = {p: waits[int(len(waits) * p / 100)] for p in (50, 95, 99)} if waits else {}
    return " ".join(f"p{p} {wait:.0f} ms" for p, wait in at.items())


def take_alerts(client, alerts, stop):
    """Reads alerts as they come: the record that each is of, and when it was in hand (milliseconds since 1970)."""
    consumer = Consumer({**client, "group.id": "not-used", "isolation.level": "read_committed", "fetch.wait.max.ms": 20})
    partitions = consumer.list_topics("fraud-alerts", timeout=30).topics["fraud-alerts"].partitions
    consumer.assign([TopicPartition("fraud-alerts", p, 0) for p in partitions])
    while not stop.is_set():
        message = consumer.poll(0.1)
        if message is not None and not message.error():
            row = json.loads(message.value())
            alerts.append(((row["partition"], row["offset"]), time.time() * 1000))
    consumer.close()


def sent_times(client, wanted):
    """When these records of the input were given to the generator's client: their own time."""
    consumer = Consumer({**client, "group.id": "not-used", "enable.partition.eof": True})
    consumer.assign([TopicPartition(transactions.INPUT, p, 0) for p in range(transactions.PARTITIONS)])
    times, ended = {}, set()
    while len(ended) < transactions.PARTITIONS:
        for message in consumer.consume(10_000, 1):
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                ended.add(message.partition())
            elif (place := (message.partition(), message.offset())) in wanted:
                times[place] = message.timestamp()[1]
    consumer.close()
    return times


def main():
    parser = argparse.ArgumentParser(prog="bench/kafka")
    parser.add_argument("what", nargs="?", choices=["throughput", "latency"])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=50_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--warm", type=int, default=20, help="seconds that are not counted: a broker compiles its own code at first")
    parser.add_argument("--profile", action="store_true", help="also print the work of each stage")
    arguments = parser.parse_args()
    client = {"bootstrap.servers": json.loads(services("env", "--json"))["KAFKA_BROKERS"]}
    if arguments.what in (None, "throughput"):
        throughput(arguments, client)
    if arguments.what in (None, "latency"):
        latency(arguments, client)


if __name__ == "__main__":
    sys.exit(main())
