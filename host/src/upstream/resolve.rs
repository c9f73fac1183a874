//! Names into addresses, on the control thread: once before serving, then again and again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::Services;

/// Names are looked up anew so often.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// A look-up may take so long.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks up the names of all endpoints, once.
pub(crate) async fn resolve(services: &Services) {
    let endpoints = services.all.iter().flat_map(|service| &service.endpoints);
    join_all(endpoints.map(|endpoint| async move {
        let target = (&*endpoint.config.host, endpoint.config.port);
        let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(target)).await;
        let addresses: Vec<_> = match found {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                tracing::warn!(endpoint = &*endpoint.config.url, %error, "cannot resolve");
                return; // What was known before is the better guess.
            }
            Err(_) => {
                tracing::warn!(endpoint = &*endpoint.config.url, "resolving timed out");
                return;
            }
        };
        if **endpoint.addresses.load() != addresses {
            endpoint.addresses.store(Arc::new(addresses));
        }
    }))
    .await;
}

/// Keeps the names' addresses current.
pub(crate) async fn keep_resolved(services: Arc<Services>) {
    loop {
        tokio::time::sleep(RESOLVE_EVERY).await;
        resolve(&services).await;
    }
}
