//! The index against the rules, read one by one over the whole list.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::*;

/// A route as a person would write it; the rules below know nothing of the index.
#[derive(Debug, Clone)]
struct Plain {
    host: Option<&'static str>,
    prefix: bool,
    segments: Vec<&'static str>,
    methods: Vec<&'static str>,
    headers: Vec<(&'static str, Option<&'static str>)>,
    query: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct Asked {
    host: &'static str,
    path: String,
    method: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    query: Option<&'static str>,
}

impl Plain {
    fn json(&self, name: usize) -> String {
        let mut fields = vec![format!(r#""name": "{name}""#)];
        let kind = if self.prefix { "path_prefix" } else { "path" };
        fields.push(format!(r#""{kind}": "/{}""#, self.segments.join("/")));
        fields.extend(self.host.map(|host| format!(r#""host": "{host}""#)));
        if !self.methods.is_empty() {
            fields.push(format!(r#""methods": {:?}"#, self.methods));
        }
        let header = |(name, value): &(&str, Option<&str>)| match value {
            Some(value) => format!(r#""{name}": "{value}""#),
            None => format!(r#""{name}": {{"present": true}}"#),
        };
        let headers: Vec<_> = self.headers.iter().map(header).collect();
        fields.push(format!(r#""headers": {{{}}}"#, headers.join(", ")));
        fields.extend(self.query.map(|value| format!(r#""query": {{"q": "{value}"}}"#)));
        fields.push(r#""service": "writer""#.to_owned());
        format!("{{{}}}", fields.join(", "))
    }

    fn takes_host(&self, host: &str) -> bool {
        match self.host {
            None => true,
            Some(wanted) => match wanted.strip_prefix('*') {
                Some(below) => host.ends_with(below) && host != below,
                None => host == wanted,
            },
        }
    }

    fn takes_path(&self, path: &str) -> bool {
        let asked: Vec<&str> = path.split('/').skip(1).collect();
        let long_enough = match self.prefix {
            true => asked.len() >= self.segments.len(),
            false => asked.len() == self.segments.len(),
        };
        let takes = |(wanted, asked): (&&str, &&str)| match wanted.starts_with('{') {
            true => !asked.is_empty(),
            false => wanted == asked,
        };
        long_enough && self.segments.iter().zip(&asked).all(takes)
    }

    fn takes_method(&self, method: &str) -> bool {
        self.methods.is_empty()
            || self.methods.contains(&method)
            || (method == "HEAD" && self.methods.contains(&"GET"))
    }

    fn holds(&self, asked: &Asked) -> bool {
        let header = |(name, wanted): &(&str, Option<&str>)| {
            let found = asked.headers.iter().find(|(known, _)| known == name);
            found.is_some_and(|(_, value)| wanted.is_none_or(|wanted| wanted == *value))
        };
        self.headers.iter().all(header) && (self.query.is_none() || self.query == asked.query)
    }

    fn host_order(&self) -> (u8, Reverse<usize>) {
        match self.host {
            Some(host) if host.starts_with('*') => (1, Reverse(host.len())),
            Some(_) => (0, Reverse(0)),
            None => (2, Reverse(0)),
        }
    }

    /// Of two paths that take the same request, the lower is the more specific.
    fn path_order(&self) -> (bool, Reverse<usize>, usize, Vec<bool>) {
        let braces: Vec<bool> = self.segments.iter().map(|it| it.starts_with('{')).collect();
        let count = braces.iter().filter(|braces| **braces).count();
        let length = if self.prefix { self.segments.len() } else { 0 };
        (self.prefix, Reverse(length), count, braces)
    }
}

/// The name of the route that takes the request, by the rules.
fn by_the_rules(routes: &[Plain], asked: &Asked) -> String {
    let mut order: Vec<(usize, &Plain)> = routes.iter().enumerate().collect();
    order.sort_by_key(|(index, route)| {
        (
            route.host_order(),
            route.path_order(),
            route.methods.is_empty(),
            Reverse(route.headers.len()),
            route.query.is_none(),
            *index,
        )
    });
    order.retain(|(_, route)| {
        route.takes_host(asked.host) && route.takes_path(&asked.path) && route.holds(asked)
    });
    let mut least = None;
    for (index, route) in &order {
        if least.as_ref().is_some_and(|least| route.path_order() > *least) {
            continue;
        }
        if route.takes_method(asked.method) {
            return index.to_string();
        }
        // This path refuses the method, unless one of its other routes takes it.
        let same = |other: &&(usize, &Plain)| {
            other.1.host == route.host && other.1.path_order() == route.path_order()
        };
        if !order.iter().filter(same).any(|(_, other)| other.takes_method(asked.method)) {
            least.get_or_insert(route.path_order());
        }
    }
    if least.is_some() { "405".to_owned() } else { "-".to_owned() }
}

fn routes() -> impl Strategy<Value = Vec<Plain>> {
    let host = prop::option::of(prop::sample::select(vec![
        "a.org", "b.org", "x.a.org", "*.org", "*.a.org",
    ]));
    let segment = prop::sample::select(vec!["a", "b", "c", "{}"]);
    let methods = prop::sample::subsequence(vec!["GET", "PUT", "BREW"], 0..=2);
    let header =
        prop::sample::subsequence(vec![("x", Some("1")), ("y", Some("1")), ("z", None)], 0..=2);
    let query = prop::option::weighted(0.2, prop::sample::select(vec!["1", "2"]));
    let route = (host, any::<bool>(), prop::collection::vec(segment, 1..4), methods, header, query)
        .prop_map(|(host, prefix, mut segments, methods, headers, query)| {
            // Each name in braces stands once in a path.
            let names = ["{p}", "{q}", "{r}"];
            for (segment, name) in segments.iter_mut().zip(names).filter(|(it, _)| **it == "{}") {
                *segment = name;
            }
            Plain { host, prefix, segments, methods, headers, query }
        });
    prop::collection::vec(route, 0..60)
}

fn asked() -> impl Strategy<Value = Asked> {
    let host = prop::sample::select(vec!["a.org", "b.org", "x.a.org", "y.a.org", "c.net"]);
    let segment = prop::sample::select(vec!["a", "b", "c", "d", ""]);
    let path = prop::collection::vec(segment, 1..5).prop_map(|it| format!("/{}", it.join("/")));
    let method = prop::sample::select(vec!["GET", "HEAD", "PUT", "BREW", "POST"]);
    let headers = prop::sample::subsequence(vec![("x", "1"), ("y", "2"), ("z", "3")], 0..=3);
    let query = prop::option::of(prop::sample::select(vec!["1", "2", "3"]));
    (host, path, method, headers, query).prop_map(|(host, path, method, headers, query)| Asked {
        host,
        path,
        method,
        headers,
        query,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_index_finds_what_the_rules_say(
        routes in routes(),
        requests in prop::collection::vec(asked(), 20),
    ) {
        let json = |routes: &[Plain]| {
            let routes: Vec<_> = routes.iter().enumerate().map(|(n, it)| it.json(n)).collect();
            configure(&format!(r#"{{"routes": [{}]}}"#, routes.join(", ")))
        };
        // Routes that no request reaches are refused, and left out by whoever reads that.
        let refused = json(&routes).err().unwrap_or_default();
        let unreachable = |index| refused.iter().any(|it| it.pointer == format!("/routes/{index}"));
        let kept: Vec<Plain> = routes
            .into_iter()
            .enumerate()
            .filter(|(index, _)| !unreachable(*index))
            .map(|(_, route)| route)
            .collect();
        let policy = json(&kept).expect("routes");
        for asked in requests {
            let request = get(&asked.path).authority(asked.host).method(asked.method);
            let request = asked.headers.iter().fold(request, |it, (name, value)| {
                it.header(name, value)
            });
            let request = match asked.query {
                Some(value) => request.query(format!("q={value}")),
                None => request,
            };
            let found = taken_by(&policy, request);
            let found = found.split(' ').next().expect("a word");
            prop_assert_eq!(found, by_the_rules(&kept, &asked), "for {:?} of {:?}", asked, kept);
        }
    }

    #[test]
    fn any_configuration_and_any_request_is_no_panic(
        config in any_config(),
        path in ".{0,40}",
        authority in ".{0,20}",
        query in ".{0,20}",
        header in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        if let Ok(policy) = configure(&config) {
            let request = get(&path).authority(authority).query(query);
            let request = request.header("x", &header).header("cookie", &header).build();
            let _ = policy.route(&request);
        }
    }
}

/// Routes with all fields, each now right, now nearly.
fn any_config() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        prop::sample::select(vec![
            r#""/""#,
            r#""/a""#,
            r#""/{a}/b""#,
            r#""/{a}?b={a}""#,
            r#""writer""#,
            r#""a.org""#,
            r#""*.org""#,
            r#""1s""#,
            r#"["GET"]"#,
            r#"{"x": "1"}"#,
            r#"{"x": {"regex": "a+"}}"#,
            r#"{"x": {"present": false}}"#,
            r#"{"writer": "open"}"#,
            r#"{"cookie": "x"}"#,
            r#"{"header": "x"}"#,
            r#"{"client_ip": true}"#,
            r#"{"to": "/{a}"}"#,
            r#"{"scheme": "https"}"#,
            r#"{"status": 200}"#,
            r#"{"status": 503, "body": "x"}"#,
            r#"{"set": {"x": "y"}, "remove": ["z"]}"#,
            r#"[{"service": "writer", "weight": 2}]"#,
        ])
        .prop_map(str::to_owned),
        "\"[a-z/{}*?.]{0,8}\"",
    ];
    let field = prop::sample::select(read::FIELDS.to_vec());
    let fields = prop::collection::btree_map(field, value, 0..6);
    let route = (fields, any::<bool>()).prop_map(|(mut fields, complete)| {
        if complete {
            fields.insert("path_prefix", r#""/{a}""#.to_owned());
            fields.remove("path");
            fields.insert("service", r#""writer""#.to_owned());
            for other in ["services", "redirect", "respond", "sticky"] {
                fields.remove(other);
            }
        }
        let fields: Vec<_> = fields.iter().map(|(k, v)| format!(r#""{k}": {v}"#)).collect();
        format!("{{{}}}", fields.join(", "))
    });
    prop::collection::vec(route, 0..4)
        .prop_map(|it| format!(r#"{{"routes": [{}]}}"#, it.join(", ")))
}
