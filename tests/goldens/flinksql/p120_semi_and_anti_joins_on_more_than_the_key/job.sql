-- case: an update moves the row of a semi or anti join to another join key: old rows are needed
-- compare: final
-- features: semi-join,anti-join,left-join,upsert-key
CREATE TABLE a (id INT, name STRING, v INT, PRIMARY KEY (id, name) NOT ENFORCED) WITH ('connector'='filesystem', 'path'='${DIR}/a.jsonl', 'format'='debezium-json');
CREATE TABLE b (id INT, name STRING, w INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem', 'path'='${DIR}/b.jsonl', 'format'='debezium-json');
CREATE TABLE semi_ (id INT, name STRING, v INT, PRIMARY KEY (id, name) NOT ENFORCED) WITH ('connector'='upsert-kafka', 'topic'='semi_', 'properties.bootstrap.servers'='localhost:9092', 'key.format'='json', 'value.format'='json');
CREATE TABLE anti_ (id INT, name STRING, v INT, PRIMARY KEY (id, name) NOT ENFORCED) WITH ('connector'='upsert-kafka', 'topic'='anti_', 'properties.bootstrap.servers'='localhost:9092', 'key.format'='json', 'value.format'='json');
CREATE TABLE part_ (id INT, name STRING, v INT, w STRING, PRIMARY KEY (id, name) NOT ENFORCED) WITH ('connector'='upsert-kafka', 'topic'='part_', 'properties.bootstrap.servers'='localhost:9092', 'key.format'='json', 'value.format'='json');
INSERT INTO semi_ SELECT a.id, a.name, a.v FROM a WHERE EXISTS (SELECT 1 FROM b WHERE a.id = b.id AND a.name = b.name);
INSERT INTO anti_ SELECT a.id, a.name, a.v FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE a.id = b.id AND a.name = b.name);
INSERT INTO part_ SELECT a.id, a.name, a.v, b.name FROM a LEFT JOIN b ON a.id = b.id;
