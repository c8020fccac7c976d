INSERT INTO app.dbz_signal VALUES ('a1','execute-snapshot','{"data-collections": ["app.items", "app.more"]}');
-- @idle
INSERT INTO app.items VALUES (90,'x',1);
-- @idle
UPDATE app.items SET v='y' WHERE id=2;
-- @idle
