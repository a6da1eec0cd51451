//! An axum application with a route of its own; Tempest's streams and workers are two more.

use axum::{Router, response::Html, routing::get};
use tempest::config::{self, Flags, Mode};
use tempest::embed::Front;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let env = |name: &str| std::env::var(name).ok();
    let config = config::load(Mode::Front, &Flags::default(), &env, &std::env::current_dir()?)?.config;
    let listener = tokio::net::TcpListener::bind(config.front.listen[0].to_string()).await?;
    let front = Front::start(config).await?;
    let app = Router::new()
        .route("/", get(async || Html(include_str!("../page.html"))))
        .nest_service("/sub", front.sub())
        .nest_service("/hello", front.work("web")?);
    let end = async move {
        let _ = tokio::signal::ctrl_c().await;
        front.drain().await;
    };
    Ok(axum::serve(listener, app).with_graceful_shutdown(end).await?)
}
