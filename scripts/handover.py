#!/usr/bin/env python3
"""One connector changes hands under load: Kafka Connect -> Millstream -> Kafka Connect -> Millstream.

  STACK=.../stack.sh MILLSTREAM=target/debug/millstream scripts/handover.py [ROUNDS [SECONDS]]

Run by hand: it needs a real Kafka Connect worker with Debezium (about 250 MB of jars). STACK is a script with the
commands `start postgres kafka connect`, `stop PART`, `env` (PGHOST, PGPORT, PGUSER, BOOTSTRAP, CONNECT as shell
variables); its worker has group.id=connect, exactly-once source support, and the topics connect_configs,
connect_offsets, connect_statuses. Millstream runs with the same names, so it finds the connector in the config topic
and goes on at its offset, and the worker does so after it.

Each row counts its changes, so that the topic says whether one is missing or came twice: every key's values must be
1, 2, 3, … up to the table's. Transactions are small, large, and COPY (rows that share one LSN).
"""
import json, os, random, signal, subprocess, sys, tempfile, threading, time, urllib.error, urllib.request

STACK = os.environ["STACK"]
MILLSTREAM = os.environ.get("MILLSTREAM", "target/release/millstream")
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 2
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 8
PORT = 28093
ENV = dict(l.split("=", 1) for l in subprocess.run([STACK, "env"], text=True, stdout=subprocess.PIPE, check=True).stdout.split())
NAME = "handover%d" % os.getpid()
SESSIONS, ROWS = 3, 200


def say(*words):
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def stack(*words):
    subprocess.run([STACK, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def psql(db, sql):
    command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", ENV["PGHOST"], "-p", ENV["PGPORT"], "-U", ENV["PGUSER"], "-d", db]
    return subprocess.run(command, input=sql, text=True, check=True, stdout=subprocess.PIPE).stdout


def ask(url, method, path, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url + path, method=method, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=90) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def until(what, seconds, check):
    end, last = time.time() + seconds, None
    while time.time() < end:
        try:
            last = check()
            if last is True:
                return
        except (urllib.error.URLError, ConnectionError) as error:
            last = error
        time.sleep(0.2)
    sys.exit(f"{what}: not within {seconds} s: {last}")


def running(url):
    state = ask(url, "GET", f"/connectors/{NAME}/status")
    return state["tasks"] != [] and state["tasks"][0]["state"] == "RUNNING" or state


class Load:
    """Sessions that change disjoint rows as fast as the server takes it, in transactions of very different sizes."""

    def __init__(self):
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.session, args=(n,)) for n in range(SESSIONS)]
        for thread in self.threads:
            thread.start()

    def session(self, n):
        choose, fresh = random.Random(n), 0
        while not self.stop.is_set():
            kind, low = choose.random(), n * ROWS
            if kind < 0.05:
                # Rows of one COPY share LSNs.
                rows = "".join(f"{10**9 * (n + 1) + fresh + i}\t1\n" for i in range(choose.choice([3, 700, 3000])))
                fresh += 3000
                sql = f"copy ledger from stdin;\n{rows}\\.\n"
            elif kind < 0.15:
                sql = f"begin; update ledger set v = v + 1 where id between {low} and {low + ROWS - 1};" * 5 + "commit;"
                sql = sql.replace("commit;begin;", "").replace(";begin;", ";")
            else:
                ids = choose.sample(range(low, low + ROWS), choose.randint(1, 20))
                sql = "begin;" + "".join(f"update ledger set v = v + 1 where id = {i};" for i in ids) + "commit;"
            psql(NAME, sql)
            time.sleep(choose.random() * 0.05)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


class Millstream:
    url = f"http://127.0.0.1:{PORT}"

    def __init__(self, directory):
        self.directory = directory
        self.settings = os.path.join(directory, "millstream.toml")
        with open(self.settings, "w", encoding="utf-8") as file:
            file.write(f"""connectors = []
pipelines = []
log = "kafka://{ENV['BOOTSTRAP']}"
data = "{directory}/data"
[server]
bind = "127.0.0.1:{PORT}"
[worker]
group_id = "connect"
config_storage_topic = "connect_configs"
offset_storage_topic = "connect_offsets"
status_storage_topic = "connect_statuses"
""")

    def start(self):
        out = open(os.path.join(self.directory, "millstream.log"), "a", encoding="utf-8")
        self.process = subprocess.Popen([MILLSTREAM, "run", "-c", self.settings], stdout=out, stderr=out)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def caught_up():
    """Whether the slot has confirmed all there was when this was asked first."""
    end = psql(NAME, "select pg_current_wal_lsn()").strip()
    until("the slot catches up", 120, lambda: psql(
        NAME, f"select confirmed_flush_lsn >= '{end}' from pg_replication_slots where slot_name = '{NAME}'").strip() == "t" or "behind")


def verify():
    wanted = dict(line.split("|") for line in psql(NAME, "select id, v from ledger").split())
    command = [MILLSTREAM, "--log", f"kafka://{ENV['BOOTSTRAP']}", "topics", "read", f"{NAME}.public.ledger", "--from", "earliest", "--jsonl"]
    seen, wrong, events = {}, [], 0
    for line in subprocess.run(command, text=True, check=True, stdout=subprocess.PIPE).stdout.splitlines():
        record = json.loads(line)
        value = record["value"] if isinstance(record["value"], dict) else json.loads(record["value"])
        events += 1
        after = value["after"]
        before = seen.get(str(after["id"]), 0)
        if after["v"] != before + 1 and len(wrong) < 20:
            wrong.append(f"offset {record['offset']}: id {after['id']} goes from {before} to {after['v']} ({value['op']}, {value['source']['lsn']})")
        seen[str(after["id"])] = after["v"]
    missing = [i for i, v in wanted.items() if str(seen.get(i, 0)) != v]
    say(f"{events} events of {len(seen)} rows; {len(wrong)} out of order, {len(missing)} rows not at their last value")
    for line in wrong:
        say("  ", line)
    return not wrong and not missing and len(seen) == len(wanted)


def main():
    stack("start", "postgres", "connect")
    psql("postgres", f"create database {NAME}")
    psql(NAME, f"create table ledger (id bigint primary key, v bigint not null); insert into ledger select i, 1 from generate_series(0, {SESSIONS * ROWS - 1}) i")
    ask(ENV["CONNECT"], "POST", "/connectors", {"name": NAME, "config": {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector", "plugin.name": "pgoutput",
        "database.hostname": ENV["PGHOST"], "database.port": ENV["PGPORT"], "database.user": ENV["PGUSER"], "database.dbname": NAME,
        "topic.prefix": NAME, "slot.name": NAME, "publication.name": NAME, "publication.autocreate.mode": "filtered",
        "table.include.list": "public.ledger", "max.batch.size": "100", "poll.interval.ms": "10",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": "false",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter", "key.converter.schemas.enable": "false"}})
    with tempfile.TemporaryDirectory(prefix="millstream-handover-") as directory:
        ours, load = Millstream(directory), None
        try:
            for turn in range(ROUNDS):
                until("Kafka Connect runs it", 90, lambda: running(ENV["CONNECT"]))
                say(f"round {turn + 1}: Kafka Connect has it")
                load = load or Load()
                time.sleep(SECONDS)
                stack("stop", "connect")
                ours.start()
                until("Millstream runs it", 30, lambda: running(ours.url))
                say(f"round {turn + 1}: Millstream has it")
                time.sleep(SECONDS)
                if turn + 1 < ROUNDS:
                    ours.end()
                    stack("start", "connect")
            load.end()
            caught_up()
            good = verify()
            ours.end()
        finally:
            if load:
                load.end()
            if getattr(ours, "process", None) and ours.process.poll() is None:
                ours.process.kill()
            log = os.path.join(directory, "millstream.log")
            if os.path.exists(log):
                sys.stderr.write(open(log, encoding="utf-8").read()[-3000:])
    say("complete, each event once" if good else "NOT the same")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
