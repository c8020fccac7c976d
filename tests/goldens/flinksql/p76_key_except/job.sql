-- case: kafka: columns of the key in the key alone; no row for a record without a key
-- compare: exact
-- features: formats
CREATE TABLE t (id INT, name STRING, k_part STRING, h MAP<STRING, BYTES> METADATA FROM 'headers', ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', o BIGINT METADATA FROM 'offset' VIRTUAL, p INT METADATA FROM 'partition' VIRTUAL, tt STRING METADATA FROM 'timestamp-type' VIRTUAL, tn STRING METADATA FROM 'topic' VIRTUAL) WITH ('connector'='kafka', 'topic'='t', 'properties.bootstrap.servers'='k:1', 'scan.startup.mode'='earliest-offset', 'key.format'='json', 'key.fields'='k_part', 'key.fields-prefix'='k_', 'value.format'='json', 'value.fields-include'='EXCEPT_KEY');
CREATE TABLE pr (id INT, name STRING, k_part STRING, ts TIMESTAMP_LTZ(3), o BIGINT, p INT, tt STRING, tn STRING) WITH ('connector'='print', 'print-identifier'='pr');
CREATE TABLE w (id INT, name STRING, k_part STRING, h MAP<STRING, BYTES> METADATA FROM 'headers', ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', o BIGINT METADATA FROM 'offset' VIRTUAL, p INT METADATA FROM 'partition' VIRTUAL, tt STRING METADATA FROM 'timestamp-type' VIRTUAL, tn STRING METADATA FROM 'topic' VIRTUAL) WITH ('connector'='kafka', 'topic'='w', 'properties.bootstrap.servers'='k:1', 'key.format'='json', 'key.fields'='k_part', 'key.fields-prefix'='k_', 'value.format'='json', 'value.fields-include'='EXCEPT_KEY');
INSERT INTO pr SELECT id, name, k_part, ts, o, p, tt, tn FROM t;
INSERT INTO w SELECT id, name, k_part, h, ts FROM t;
