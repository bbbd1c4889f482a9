"""The store: experiments, facts and rewards in a SQL database. Nothing outside this package knows SQL.

From the outside in:

- `opening` opens a database, to serve from or to read;
- `contract` is what a store promises, `records` are the values that go in and out, `errors` what it raises;
- `sql_store` keeps that contract: what one transaction does;
- `tables` has the SQL, a module for each table, and `columns` how values stand in columns;
- `maintenance` has what works on a whole database: purging, verification, repairs;
- `dialect` is what differs between databases, as `sqlite` and `postgresql` do it;
- `migrate` brings a database to this version's schema, by `migrations`.
"""
