-- case: SESSION rows come out in order of the ends, and of a session as they came
-- compare: exact
-- features: session,window-tvf
CREATE TABLE s (id INT, k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '60' SECOND) WITH ('connector'='filesystem', 'path'='${DIR}/s.jsonl', 'format'='json');
CREATE TABLE o1 (id INT, k STRING, ws TIMESTAMP(3), we TIMESTAMP(3)) WITH ('connector'='print', 'print-identifier'='o1');
INSERT INTO o1 SELECT id, k, window_start, window_end FROM TABLE(SESSION(TABLE s PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND));
