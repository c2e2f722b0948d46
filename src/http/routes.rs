//! The routes, for what must be said of each.

/// Every route, with its methods as in an `Allow` header.
pub const ROUTES: [(&str, &str); 22] = [
    ("/", "GET, HEAD, POST"),
    ("/api", "GET"),
    ("/v1/openapi.json", "GET"),
    ("/fleet", "GET, HEAD"),
    ("/assets/{file}", "GET"),
    ("/v1/recognitions", "POST"),
    ("/v1/recognitions/{id}", "GET, DELETE"),
    ("/v1/people", "GET, POST"),
    ("/v1/galleries", "GET"),
    ("/v1/people/{name}", "DELETE"),
    ("/v1/people/{name}/rejections", "POST"),
    ("/v1/dead-letters", "GET"),
    ("/v1/dead-letters/{id}", "GET, POST, DELETE"),
    ("/v1/backup", "GET"),
    ("/v1/session", "GET, POST, DELETE"),
    ("/v1/fleet", "GET"),
    ("/v1/fleet/decisions", "GET"),
    ("/v1/fleet/history", "GET"),
    ("/v1/events", "GET"),
    ("/healthz", "GET, HEAD"),
    ("/readyz", "GET, HEAD"),
    ("/metrics", "GET"),
];
