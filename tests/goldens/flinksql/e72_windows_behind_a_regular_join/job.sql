-- case: an aggregation by window columns behind a regular join updates its rows
-- compare: error
-- features: window-tvf,join
CREATE TABLE ev (id INT, k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector'='filesystem','path'='${DIR}/ev.jsonl','format'='json');
CREATE TABLE d (k STRING, n STRING) WITH ('connector'='filesystem','path'='${DIR}/d.jsonl','format'='json');
CREATE TABLE o (ws TIMESTAMP(3), s INT) WITH ('connector'='kafka','topic'='o','properties.bootstrap.servers'='localhost:9092','format'='json');
INSERT INTO o SELECT w.window_start, SUM(w.v) FROM (SELECT k, v, window_start, window_end FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND))) w JOIN d ON w.k=d.k GROUP BY w.window_start, w.window_end;
