SELECT pg_logical_emit_message(true,'pre','text'); SELECT pg_logical_emit_message(false,'pre','nontx');
BEGIN; INSERT INTO a VALUES (1,'x'); SELECT pg_logical_emit_message(true,'inside','m1'); SELECT pg_logical_emit_message(false,'outside','m2'); INSERT INTO a VALUES (2,'y'); SELECT pg_logical_emit_message(true,'other','m3'); COMMIT;
BEGIN; SELECT pg_logical_emit_message(true,'rb','rolled'); SELECT pg_logical_emit_message(false,'rbn','stays'); ROLLBACK;
SELECT pg_logical_emit_message(true,'bin','\x00ff10'::bytea); SELECT pg_logical_emit_message(true,'',''); SELECT pg_logical_emit_message(true,'dot.ted pre"fix é','ünï'); SELECT pg_logical_emit_message(false,'foo',repeat('x',3000)); SELECT pg_logical_emit_message(true,'FOO','up'); SELECT pg_logical_emit_message(true,'foobar','fb');
BEGIN; SELECT pg_logical_emit_message(true,'only','1'); SELECT pg_logical_emit_message(true,'only','2'); COMMIT;
INSERT INTO b VALUES (1);
