CREATE SCHEMA extschema;
CREATE EXTENSION vector SCHEMA extschema;

CREATE TABLE vectors (
  id int PRIMARY KEY,
  v extschema.vector(3), anyv extschema.vector, h extschema.halfvec(3), s extschema.sparsevec(5),
  va extschema.vector[], ha extschema.halfvec[], sa extschema.sparsevec[]
);
CREATE TABLE defaults (
  id int PRIMARY KEY,
  v extschema.vector(2) NOT NULL DEFAULT '[1,2.5]', h extschema.halfvec(2) NOT NULL DEFAULT '[1,2.5]', s extschema.sparsevec NOT NULL DEFAULT '{1:1.5}/3',
  dv extschema.vector(2) DEFAULT '[3,4]'
);
ALTER TABLE defaults REPLICA IDENTITY FULL;
CREATE DOMAIN emb AS extschema.vector(3);
CREATE TABLE dom (id int PRIMARY KEY, e emb, ne emb NOT NULL);
CREATE TABLE wide (id int PRIMARY KEY, v extschema.vector, nv extschema.vector, h extschema.halfvec, s extschema.sparsevec, ns extschema.sparsevec, nh extschema.halfvec, t text);
CREATE TABLE full_rows (v extschema.vector(2), h extschema.halfvec NOT NULL, s extschema.sparsevec, t text);
ALTER TABLE full_rows REPLICA IDENTITY FULL;
INSERT INTO vectors VALUES
 (1, '[1,2.5,-3]', '[0.1,1e-10,3.4e38]', '[1,0.1,-65504]', '{1:1.5,5:-2}/5', ARRAY['[1,2]','[3]']::extschema.vector[], ARRAY['[1,2]']::extschema.halfvec[], ARRAY['{1:1}/2']::extschema.sparsevec[]),
 (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (3, '[0,0,0]', '[123456789,1e20,-0]', '[0.0001,1e-7,1000]', '{}/5', '{}', '{}', '{}'),
 (4, '[1e7,1e-3,12345678]', '[1]', NULL, '{2:1e-8,3:1e9}/5', ARRAY[NULL]::extschema.vector[], ARRAY[NULL]::extschema.halfvec[], ARRAY[NULL]::extschema.sparsevec[]),
 (5, NULL, NULL, NULL, (SELECT ('{1:1,2:2,3:3,4:4,5:5}/5')::extschema.sparsevec), NULL, NULL, NULL);
INSERT INTO defaults (id) VALUES (1);
INSERT INTO dom VALUES (1, '[1,2,3]', '[4,5,6]'), (2, NULL, '[7,8,9]');
INSERT INTO wide SELECT 1, v, v, v, ('{' || string_agg(i || ':' || i, ',' ORDER BY i) || '}/20000')::extschema.sparsevec, ('{' || string_agg(i || ':' || i, ',' ORDER BY i) || '}/20000')::extschema.sparsevec, v, 'a'
  FROM (SELECT ('[' || string_agg((i * 0.5)::text, ',' ORDER BY i) || ']')::extschema.vector v FROM generate_series(1, 1500) i) x, generate_series(1, 1200) i GROUP BY v;
INSERT INTO full_rows VALUES ('[1,2]', '[1]', '{1:1}/2', 'a'), (NULL, '[2]', NULL, 'b');
