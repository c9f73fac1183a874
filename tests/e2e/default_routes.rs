//! The routes of the built-in configuration, and what the default routing policy makes of others.

use orchestrator_tests::{Gateway, Request, Upstream, service};

/// As they stand in the README and in the configuration that is built in.
const BUILT_IN: &str = r#"
[[policy.routing.config.routes]]
path_prefix = "/api/enrich"
service = "research"
[[policy.routing.config.routes]]
path_prefix = "/api/publish"
rewrite_prefix = "/publish"
service = "backend"
[[policy.routing.config.routes]]
path_prefix = "/api/writer"
rewrite_prefix = "/"
service = "writer"
"#;

/// Three services and one gateway; asks which service a request reaches, and as what.
pub(crate) struct Routed {
    pub(crate) services: [(&'static str, Upstream); 3],
    pub(crate) gateway: Gateway,
}

impl Routed {
    pub(crate) async fn by(routes: &str) -> Self {
        let services = [
            ("writer", Upstream::start().await),
            ("research", Upstream::start().await),
            ("backend", Upstream::start().await),
        ];
        let lines = services.each_ref().map(|(name, upstream)| service(name, [upstream]));
        let gateway = Gateway::start(format!("{}\n{routes}", lines.join("\n"))).await;
        Self { services, gateway }
    }

    /// `writer GET /notes`, or the status where no service was reached.
    pub(crate) async fn reaches(&self, request: Request) -> String {
        let before = self.services.each_ref().map(|(_, upstream)| upstream.count());
        let reply = self.gateway.call(request).await;
        let mut reached = Vec::new();
        for ((name, upstream), before) in self.services.iter().zip(before) {
            for received in &upstream.requests()[before..] {
                reached.push(format!("{name} {}", received.line()));
            }
        }
        match reached.as_slice() {
            [] => reply.status().to_string(),
            [one] => one.clone(),
            more => panic!("one request reached more than one service: {more:?}"),
        }
    }

    pub(crate) async fn expect(&self, cases: &[(&str, &str)]) {
        for (request, expected) in cases {
            let (method, target) = request.split_once(' ').unwrap();
            let reached = self.reaches(Request::new(method, target)).await;
            assert_eq!(reached, *expected, "for {request}");
        }
    }
}

mod built_in {
    use super::*;

    #[tokio::test]
    async fn research_serves_api_enrich_under_its_own_path() {
        Routed::by(BUILT_IN)
            .await
            .expect(&[
                ("GET /api/enrich", "research GET /api/enrich"),
                ("POST /api/enrich", "research POST /api/enrich"),
                ("GET /api/enrich/", "research GET /api/enrich/"),
                ("GET /api/enrich/a/b?c=d", "research GET /api/enrich/a/b?c=d"),
            ])
            .await;
    }

    #[tokio::test]
    async fn backend_serves_publish() {
        Routed::by(BUILT_IN)
            .await
            .expect(&[
                ("GET /api/publish", "backend GET /publish"),
                ("POST /api/publish", "backend POST /publish"),
                ("GET /api/publish/", "backend GET /publish/"),
                ("GET /api/publish/7/now?x=%20", "backend GET /publish/7/now?x=%20"),
            ])
            .await;
    }

    #[tokio::test]
    async fn writer_serves_everything_below_api_writer_from_its_root() {
        Routed::by(BUILT_IN)
            .await
            .expect(&[
                ("GET /api/writer", "writer GET /"),
                ("GET /api/writer/", "writer GET /"),
                ("GET /api/writer?draft=1", "writer GET /?draft=1"),
                ("DELETE /api/writer/notes/1", "writer DELETE /notes/1"),
                ("GET /api/writer/health", "writer GET /health"),
            ])
            .await;
    }

    #[tokio::test]
    async fn a_prefix_ends_where_a_segment_ends() {
        Routed::by(BUILT_IN)
            .await
            .expect(&[
                ("GET /api/enriched", "404"),
                ("GET /api/writers", "404"),
                ("GET /api/publish-all", "404"),
                ("GET /api/writer.json", "404"),
            ])
            .await;
    }

    #[tokio::test]
    async fn what_no_route_names_is_404_with_a_detail() {
        let routed = Routed::by(BUILT_IN).await;
        routed
            .expect(&[
                ("GET /api", "404"),
                ("GET /api/", "404"),
                ("GET /writer", "404"),
                ("GET /API/WRITER", "404"),
                ("GET /x/api/writer", "404"),
            ])
            .await;
        let detail = routed.gateway.get("/elsewhere").await.problem(404);
        assert!(!detail.is_empty());
    }

    #[tokio::test]
    async fn the_path_reaches_the_service_as_it_was_encoded() {
        Routed::by(BUILT_IN)
            .await
            .expect(&[
                ("GET /api/writer/a%20b%2Fc?d=%26&e", "writer GET /a%20b%2Fc?d=%26&e"),
                ("GET /api/enrich/%C3%BC?q=a+b", "research GET /api/enrich/%C3%BC?q=a+b"),
                ("GET /api/enrich/x?", "research GET /api/enrich/x?"),
            ])
            .await;
    }
}

/// Routes as one inline list.
pub(crate) async fn routes(list: &str) -> Routed {
    Routed::by(&format!("[policy.routing.config]\nroutes = [{list}]")).await
}

mod policy {
    use super::*;

    #[tokio::test]
    async fn an_exact_path_matches_nothing_below_it() {
        routes(r#"{ path = "/status", service = "writer" }"#)
            .await
            .expect(&[
                ("GET /status", "writer GET /status"),
                ("GET /status?x", "writer GET /status?x"),
                ("GET /status/", "404"),
                ("GET /status/x", "404"),
            ])
            .await;
    }

    #[tokio::test]
    async fn the_most_specific_path_wins_wherever_it_stands_in_the_list() {
        routes(
            r#"{ path_prefix = "/", service = "writer" },
               { path_prefix = "/a", service = "research" },
               { path_prefix = "/a/b", service = "backend" },
               { path = "/a/b/c", service = "writer" }"#,
        )
        .await
        .expect(&[
            ("GET /x", "writer GET /x"),
            ("GET /a", "research GET /a"),
            ("GET /a/c", "research GET /a/c"),
            ("GET /a/b/d", "backend GET /a/b/d"),
            ("GET /a/b/c", "writer GET /a/b/c"),
        ])
        .await;
    }

    #[tokio::test]
    async fn of_equal_paths_the_first_in_the_list_wins() {
        let routed = routes(
            r#"{ path_prefix = "/a", methods = ["GET"], service = "research" },
               { path_prefix = "/a", service = "backend" },
               { path_prefix = "/a", host = "one.test", service = "writer" }"#,
        )
        .await;
        routed.expect(&[("GET /a", "research GET /a"), ("PUT /a", "backend PUT /a")]).await;
        // A route for this host is more specific than one for any, wherever it stands.
        let request = Request::get("/a").header("Host", "one.test");
        assert_eq!(routed.reaches(request).await, "writer GET /a");
    }

    #[tokio::test]
    async fn a_host_must_match_without_its_port_and_whatever_its_case() {
        let routed = routes(
            r#"{ path_prefix = "/", host = "one.test", service = "writer" },
               { path_prefix = "/", host = "two.test", service = "research" }"#,
        )
        .await;
        for (host, expected) in [
            ("one.test", "writer GET /x"),
            ("one.test:8003", "writer GET /x"),
            ("ONE.Test", "writer GET /x"),
            ("two.test", "research GET /x"),
            ("three.test", "404"),
            ("one.test.evil", "404"),
        ] {
            let request = Request::get("/x").header("Host", host);
            assert_eq!(routed.reaches(request).await, expected, "for {host}");
        }
    }

    #[tokio::test]
    async fn another_method_on_a_matching_path_is_405_and_says_what_is_allowed() {
        let routed = routes(
            r#"{ path_prefix = "/a", methods = ["GET"], service = "writer" },
               { path_prefix = "/a", methods = ["POST", "PUT"], service = "research" }"#,
        )
        .await;
        routed
            .expect(&[
                ("GET /a", "writer GET /a"),
                ("HEAD /a", "writer HEAD /a"),
                ("PUT /a", "research PUT /a"),
                ("DELETE /a", "405"),
                ("DELETE /b", "404"),
            ])
            .await;
        let reply = routed.gateway.call(Request::new("DELETE", "/a")).await;
        assert!(!reply.problem(405).is_empty());
        let allow = reply.header("allow").unwrap();
        for method in ["GET", "POST", "PUT"] {
            assert!(allow.split(", ").any(|allowed| allowed == method), "{allow}");
        }
    }

    #[tokio::test]
    async fn a_rewrite_replaces_the_prefix_and_keeps_the_rest() {
        routes(
            r#"{ path_prefix = "/v1/notes", rewrite_prefix = "/n", service = "writer" },
               { path_prefix = "/root", rewrite_prefix = "/", service = "research" },
               { path_prefix = "/deep", rewrite_prefix = "/a/b/", service = "backend" }"#,
        )
        .await
        .expect(&[
            ("GET /v1/notes", "writer GET /n"),
            ("GET /v1/notes/1?x", "writer GET /n/1?x"),
            ("GET /root", "research GET /"),
            ("GET /root/x", "research GET /x"),
            ("GET /deep/x", "backend GET /a/b/x"),
        ])
        .await;
    }

    #[tokio::test]
    async fn a_routes_name_stands_in_the_access_log() {
        let routed = routes(r#"{ name = "all", path_prefix = "/", service = "writer" }"#).await;
        let reply = routed.gateway.get("/x").await;
        assert_eq!(routed.gateway.access_of(&reply).await["route"], "all");
    }
}
