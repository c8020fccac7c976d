BEGIN;
INSERT INTO app.dbz_signal VALUES ('a','execute-snapshot','{"data-collections": ["app.more"], "type": "blocking"}');
INSERT INTO app.dbz_signal VALUES ('b','execute-snapshot','{"data-collections": ["app.items"], "type": "blocking", "additional-conditions": [{"data-collection": "app.items", "filter": "SELECT * FROM app.items WHERE id < 3"}]}');
INSERT INTO app.items VALUES (60,'a',1);
COMMIT;
-- @idle
INSERT INTO app.items VALUES (63,'a',1);
-- @idle
