//! Someone who changes policies through the admin API, and sees what became of them.

use serde_json::{Value, json};

use crate::client::{Client, Reply, Request};
use crate::gateway::Gateway;
use crate::wait::eventually;

/// The token of all tests, in the environment of every gateway of theirs under this name.
pub const TOKEN_VARIABLE: &str = "ORCHESTRATOR_TOKEN_OF_TESTS";
pub const TOKEN: &str = "a token that only tests know";

/// What goes between the parts of a form, and is in none.
const BOUNDARY: &str = "between-two-parts-of-a-form";

/// A component, and what may come with it.
#[derive(Debug, Clone)]
pub struct Push {
    component: Vec<u8>,
    config: Option<Value>,
    cases: Option<Value>,
    query: &'static str,
    if_match: Option<String>,
}

impl Push {
    /// What is in this file, or these bytes.
    pub fn of(component: impl Into<Vec<u8>>) -> Push {
        Push { component: component.into(), config: None, cases: None, query: "", if_match: None }
    }

    #[must_use]
    pub fn config(mut self, config: Value) -> Push {
        self.config = Some(config);
        self
    }

    #[must_use]
    pub fn cases(mut self, cases: Value) -> Push {
        self.cases = Some(cases);
        self
    }

    /// It is looked at, and does not decide yet.
    #[must_use]
    pub fn staged(mut self) -> Push {
        self.query = "?activate=false";
        self
    }

    #[must_use]
    pub fn if_match(mut self, version: &str) -> Push {
        self.if_match = Some(format!("\"{version}\""));
        self
    }

    /// With the tests' token.
    pub fn request(&self, kind: &str) -> Request {
        let mut body = Vec::new();
        let mut part = |name: &str, bytes: &[u8]| {
            let head = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; \
                 filename=\"{name}\"\r\n\r\n"
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(bytes);
            body.extend_from_slice(b"\r\n");
        };
        part("component", &self.component);
        for (name, value) in [("config", &self.config), ("cases", &self.cases)] {
            if let Some(value) = value {
                part(name, value.to_string().as_bytes());
            }
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        let target = format!("/policies/{kind}/versions{}", self.query);
        let request = authorized(Request::post(&target, body))
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
        match &self.if_match {
            Some(version) => request.header("if-match", version),
            None => request,
        }
    }
}

/// The request with the tests' token.
fn authorized(request: Request) -> Request {
    request.header("authorization", format!("Bearer {TOKEN}"))
}

/// The request, with the tests' token, that has a version decide.
pub fn activation(kind: &str, version: &str) -> Request {
    let body = json!({ "version": version }).to_string();
    authorized(Request::post(&format!("/policies/{kind}/activate"), body))
}

/// The same for the version before the active one.
pub fn rollback(kind: &str) -> Request {
    authorized(Request::post(&format!("/policies/{kind}/rollback"), ""))
}

impl Gateway {
    /// One call of the admin API with the tests' token.
    pub async fn operate(&self, request: Request) -> Reply {
        self.call_admin(authorized(request)).await
    }

    /// One call of the admin API as it is.
    pub async fn call_admin(&self, request: Request) -> Reply {
        Client::connect(self.admin).await.call(request).await
    }

    pub async fn push(&self, kind: &str, push: Push) -> Reply {
        self.call_admin(push.request(kind)).await
    }

    /// The same, of a version that is taken. Returns its name.
    pub async fn pushed(&self, kind: &str, push: Push) -> String {
        let reply = self.push(kind, push).await;
        assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
        reply.json()["version"].as_str().unwrap().to_owned()
    }

    pub async fn activate(&self, kind: &str, version: &str) -> Reply {
        self.call_admin(activation(kind, version)).await
    }

    pub async fn roll_back(&self, kind: &str) -> Reply {
        self.call_admin(rollback(kind)).await
    }

    /// All about one policy.
    pub async fn policy(&self, kind: &str) -> Value {
        let reply = self.admin_get(&format!("/policies/{kind}")).await;
        assert_eq!(reply.status(), 200);
        reply.json()
    }

    /// The same, as soon as `wanted` is true of it.
    pub async fn policy_when(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(format!("the {kind} policy to have a certain state"), async || {
            Some(self.policy(kind).await).filter(&wanted)
        })
        .await
    }

    /// What is known of one version.
    pub async fn version(&self, kind: &str, version: &str) -> Value {
        let policy = self.policy(kind).await;
        let all = policy["versions"].as_array().unwrap();
        all.iter().find(|it| it["version"] == version).cloned().unwrap_or(Value::Null)
    }
}
