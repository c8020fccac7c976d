#!/usr/bin/env python3
"""The five ETL examples on the real stack, unchanged, and then on Millstream: both have to hold the same.

  STACK=.../stack.sh MILLSTREAM=target/debug/millstream scripts/etl_on_flink.py [PIPELINE...]

Run by hand: it needs Kafka Connect with Debezium and Flink (about 800 MB of jars) and some minutes. STACK is a script
with the commands `start postgres kafka connect`, `stop`, `clean`, `flink FILE.sql [OPTION=VALUE...]` and `env` (PGHOST,
PGPORT, PGUSER, BOOTSTRAP, CONNECT as shell variables) that takes its ports from PG_PORT and KAFKA_PORT.

The files in connectors/ and pipelines/ name servers as the containers do (kafka:9092, target-db:5432, ...). The ports
are made the same here, and a hosts file of the JVM's leads the names to this machine: not a byte of them is edited.
What the targets have to hold is asked of the source by migrations/check/. PIPELINE: names of files, default all five.
"""
import json, os, pathlib, signal, socket, subprocess, sys, tempfile, time, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
STACK = os.environ["STACK"]
MILLSTREAM = os.environ.get("MILLSTREAM", str(ROOT / "target/release/millstream"))
NAMES = ["kafka", "source-db", "target-db", "telemetry-db", "registry-db", "localhost", socket.gethostname()]
WORK = pathlib.Path(tempfile.mkdtemp(prefix="etl-on-flink-"))
(WORK / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in NAMES))
os.environ.update(PG_PORT="5432", KAFKA_PORT="9092", JAVA_TOOL_OPTIONS=f"-Djdk.net.hosts.file={WORK}/hosts")
ENV = dict(l.split("=", 1) for l in subprocess.run([STACK, "env"], text=True, stdout=subprocess.PIPE, check=True).stdout.split())

# Pipeline: its file, the targets with their checks and the database that the checks ask.
TELEMETRY = "pipelines/etl"
PIPELINES = {
    "iot_enriched": (TELEMETRY, ["telemetry.readings_enriched"], "telemetry"),
    "user_sessions": (TELEMETRY, ["telemetry.user_sessions"], "telemetry"),
    "user_activity": (TELEMETRY, ["telemetry.user_activity"], "telemetry"),
    "rolling_statistics": (TELEMETRY, ["topic iot.rolling_statistics"], "telemetry"),
    "star_schema": (
        "pipelines",
        [f"classicmodels_star_schema.{t}" for t in ("dim_customers", "dim_products", "fact_orders")],
        "classicmodels",
    ),
}
# What happens in the shop while its pipeline runs.
CHANGES = """
UPDATE classicmodels.products SET "buyPrice" = "buyPrice" + 1 WHERE "quantityInStock" % 2 = 0;
UPDATE classicmodels.productlines SET "textDescription" = "textDescription" || ' (new)';
UPDATE classicmodels.customers SET "creditLimit" = "creditLimit" * 2 WHERE country = 'USA';
BEGIN; UPDATE classicmodels.orders SET status = 'Shipped', "shippedDate" = "orderDate" + 3 WHERE status <> 'Shipped';
UPDATE classicmodels.orderdetails SET "quantityOrdered" = "quantityOrdered" + 1 WHERE "orderLineNumber" = 1; COMMIT;
DELETE FROM classicmodels.orderdetails WHERE "orderLineNumber" = 2;
"""


def say(*words):
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def stack(*words):
    subprocess.run([STACK, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def psql(db, sql, *options):
    command = ["psql", "-XqA", "-P", "footer=off", "-v", "ON_ERROR_STOP=1", "-h", ENV["PGHOST"], "-p", ENV["PGPORT"], "-U", ENV["PGUSER"], "-d", db, *options]
    return subprocess.run(command, input=sql, text=True, check=True, stdout=subprocess.PIPE).stdout


def millstream(*words):
    command = [MILLSTREAM, "--log", f"kafka://{ENV['BOOTSTRAP']}", "--data", str(WORK / "data")]
    for name in NAMES[1:5]:
        command += ["--connect-to", f"{name}:5432={ENV['PGHOST']}:{ENV['PGPORT']}"]
    done = subprocess.run([*command, *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"millstream {' '.join(words)}: {done.stderr}")
    return done.stdout


def check(target, database):
    """Column names, and the rows that a target has to hold, as text."""
    name = target.split(".")[1]
    file = ROOT / "migrations/check" / ("telemetry" if database == "telemetry" else "") / f"{name}.sql"
    header, *rows = psql(database, file.read_text()).splitlines()
    return header.split("|"), sorted(rows)


def held(target, columns):
    """The rows that a target holds, as the check's."""
    if not target.startswith("topic "):
        return sorted(psql("warehouse", f"SELECT {', '.join(columns)} FROM {target}").splitlines()[1:])
    topic = target.split()[1]
    if topic not in millstream("topics", "list").split():
        return []
    rows = []
    for line in millstream("topics", "read", topic, "--jsonl").splitlines():
        value = json.loads(line)["value"]
        value = json.loads(value) if isinstance(value, str) else value
        digits = {"avg_temperature": 3, "min_temperature": 2, "max_temperature": 2, "avg_humidity": 3}
        text = lambda c: "" if value[c] is None else f"{value[c]:.{digits[c]}f}" if c in digits else str(value[c])
        rows.append("|".join(text(c) for c in columns))
    return sorted(rows)


def wait_for(target, database, seconds):
    """Until a target holds what it has to; gives its columns and rows."""
    end = time.time() + seconds
    while True:
        columns, wanted = check(target, database)
        found = held(target, columns)
        if found == wanted:
            return columns, found
        if time.time() > end:
            odd = sorted(set(found) ^ set(wanted))[:4]
            sys.exit(f"{target}: {len(found)} rows, {len(wanted)} wanted; not the same: {odd}")
        time.sleep(2)


def set_up():
    stack("start", "postgres", "kafka", "connect")
    for database in ("telemetry", "registry", "warehouse", "classicmodels"):
        psql("postgres", f"CREATE DATABASE {database}")
    folders = [("telemetry", "source/telemetry"), ("registry", "source/registry"), ("telemetry", "source/registry"),
               ("warehouse", "target/telemetry"), ("classicmodels", "source"), ("warehouse", "target")]
    for database, folder in folders:
        for file in sorted((ROOT / "migrations" / folder).glob("*.sql")):
            psql(database, file.read_text())
    for file in ("etl/register-telemetry.json", "register-classicmodels.json"):
        request = urllib.request.Request(ENV["CONNECT"] + "/connectors", method="POST", data=(ROOT / "connectors" / file).read_bytes(),
                                         headers={"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=90).read()


def on_flink(name, folder, targets, database):
    # A SQL client's jobs go on; a job of this local Flink ends with its JVM. Parallelism 1 is a cluster's default.
    with open(WORK / f"{name}.flink", "w", encoding="utf-8") as out:
        job = subprocess.Popen([STACK, "flink", str(ROOT / folder / f"{name}.sql"), "execution.checkpointing.interval=1s", "parallelism.default=1"],
                               stdout=out, stderr=out, start_new_session=True)
    try:
        results = [wait_for(target, database, 240) for target in targets]
        if database == "classicmodels":
            say(name, "the first rows are right; now changes in the source")
            psql(database, CHANGES)
            results = [wait_for(target, database, 120) for target in targets]
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    return results


def main():
    chosen = sys.argv[1:] or list(PIPELINES)
    set_up()
    for name in chosen:
        folder, targets, database = PIPELINES[name]
        flink = on_flink(name, folder, targets, database)
        for target in targets:
            if target.startswith("topic "):
                stack("kafka-tool", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", ENV["BOOTSTRAP"], "--delete", "--topic", target.split()[1])
            else:
                psql("warehouse", f"TRUNCATE {target}")
        millstream("sql", "--until-idle", "3s", "-f", str(ROOT / folder / f"{name}.sql"))
        for target, (columns, rows) in zip(targets, flink):
            ours = held(target, columns)
            if ours != rows:
                sys.exit(f"{target}: Millstream holds {len(ours)} rows, Flink {len(rows)}; not in both: {sorted(set(ours) ^ set(rows))[:4]}")
            say(f"{name}: {target}: Flink and Millstream hold the same {len(rows)} rows, those of the check")
    say("the same:", ", ".join(chosen))


if __name__ == "__main__":
    # What failed is left as it is, for a look; `STACK clean` removes it.
    main()
    stack("clean")
