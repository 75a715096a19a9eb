"""PostgreSQL protocol 3.0, both sides, without I/O.

================= ==============================================================================================
`framing`         bytes from a socket → whole messages
`frontend`        what clients send: built (towards backends) and parsed (from clients)
`backend`         what servers send: built (towards clients) and parsed (from backends)
`diagnostics`     ErrorResponse and NoticeResponse ↔ `PgError`, and their rewriting
`startup`         the two handshakes: a client that logs in to us, we that log in to a backend
`scram`           SCRAM-SHA-256, both sides; `verifier` and `saslprep` are its parts
`dump`            a message as a line of text, for transcripts and traces
`types`           OIDs of built-in types
================= ==============================================================================================

Parsers take the *whole* message, header included, as `framing` gives it, and never raise anything but `PgError`.
Names and statement texts stay bytes (their encoding is the client's business); what is read by people is str, decoded
as UTF-8 with surrogateescape, so that any bytes survive a round trip.
"""
