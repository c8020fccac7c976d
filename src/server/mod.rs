//! HTTP: REST, health, metrics, and the control socket.
