-- case: kafka: columns of the key in the value as well; no row for a record without a key
-- compare: exact
-- features: formats
CREATE TABLE t (id INT, name STRING, part STRING) WITH ('connector'='kafka', 'topic'='t', 'properties.bootstrap.servers'='k:1', 'scan.startup.mode'='earliest-offset', 'key.format'='json', 'key.fields'='id;part', 'value.format'='json', 'value.fields-include'='ALL');
CREATE TABLE pr (id INT, name STRING, part STRING) WITH ('connector'='print', 'print-identifier'='pr');
CREATE TABLE w (id INT, name STRING, part STRING) WITH ('connector'='kafka', 'topic'='w', 'properties.bootstrap.servers'='k:1', 'key.format'='csv', 'key.fields'='part;id', 'value.format'='json');
INSERT INTO pr SELECT * FROM t;
INSERT INTO w SELECT * FROM t;
