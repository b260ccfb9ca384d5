//! Starting an application in a shape.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;
use mosaic::config::Layers;
use mosaic::rpc::Connect;
use mosaic::{App, Process, Runtime};
use tempfile::TempDir;

use crate::{Caller, log, until};

/// How the modules are spread over processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One process, arguments move.
    Together,
    /// One process, every local call encoded and decoded.
    Strict,
    /// One process for each list of modules; a module's domain has its name. The first list has the public port.
    Apart(&'static [&'static [&'static str]]),
}

/// What to start; see [`TestApp::builder`].
#[derive(Debug)]
pub struct TestAppBuilder {
    app: App,
    shape: Shape,
    runtime: Runtime,
    settings: Vec<(String, String)>,
}

impl TestAppBuilder {
    /// Spreads the modules.
    #[must_use]
    pub fn shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// Sets a key of the configuration of every process.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// Gives the processes a clock, randomness and ids.
    #[must_use]
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Starts the processes and waits until all are ready.
    ///
    /// # Panics
    /// If one does not start.
    pub async fn start(self) -> TestApp {
        log::keep();
        let data = TempDir::new().expect("a temporary directory");
        let lists: &[&[&str]] = match self.shape {
            Shape::Together | Shape::Strict => &[&[]],
            Shape::Apart(lists) => lists,
        };
        // What is called starts first, so that its address is known.
        let mut processes = Vec::new();
        let mut addresses: Vec<(&str, SocketAddr)> = Vec::new();
        for (position, list) in lists.iter().enumerate().rev() {
            let directory = data.path().join(position.to_string());
            let mut layers = Layers::default()
                .set("mode", "dev")
                .set("data", directory.display().to_string())
                .set("run", list.join(","))
                .set("rpc.strict_local", (self.shape == Shape::Strict).to_string());
            if lists.len() > 1 {
                // Databases of their own, but one bus.
                layers = layers.set("events.url", format!("sqlite:{}/", data.path().join("bus").display()));
            }
            for key in ["http", "grpc", "admin"] {
                layers = layers.set(key, "127.0.0.1:0");
            }
            for (domain, address) in &addresses {
                layers = layers.set(&format!("rpc.services.{domain}"), format!("http://{address}"));
            }
            for (key, value) in &self.settings {
                layers = layers.set(key, value.clone());
            }
            let process = self
                .app
                .start(&self.runtime, layers)
                .await
                .expect("a process that starts");
            addresses.extend(list.iter().map(|domain| (*domain, process.addresses().grpc)));
            processes.insert(0, process);
        }
        for process in &processes {
            until("the process is ready", Duration::from_secs(20), || async {
                process.obstacles().await.is_empty()
            })
            .await;
        }
        TestApp {
            processes,
            client: client(),
            runtime: self.runtime,
            data,
        }
    }
}

fn client() -> reqwest::Client {
    mosaic::partner_client(Duration::from_secs(60)).expect("a client")
}

/// An application that runs for a test.
#[derive(Debug)]
pub struct TestApp {
    processes: Vec<Process>,
    client: reqwest::Client,
    runtime: Runtime,
    data: TempDir,
}

impl TestApp {
    /// Begins to describe what to start.
    pub fn builder(app: App) -> TestAppBuilder {
        TestAppBuilder {
            app,
            shape: Shape::Together,
            runtime: Runtime::system(),
            settings: Vec::new(),
        }
    }

    /// Returns somebody without a token.
    ///
    /// # Panics
    /// If the first process has no public port.
    pub fn anonymous(&self) -> Caller {
        let address = self.http();
        Caller {
            client: self.client.clone(),
            base: format!("http://{address}"),
            headers: HeaderMap::new(),
        }
    }

    /// Returns the public address.
    ///
    /// # Panics
    /// If the first process has no public port.
    pub fn http(&self) -> SocketAddr {
        self.processes[0]
            .addresses()
            .http
            .expect("the first process has the public port")
    }

    /// Returns the processes, in the order of the shape's lists.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// Returns the data directory of the process with number `position`.
    pub fn data(&self, position: usize) -> PathBuf {
        self.data.path().join(position.to_string())
    }

    /// Returns clock, randomness and ids.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Returns a client of a service as the first process sees it, calling in the name of `caller`.
    pub fn client<C: Connect>(&self, caller: &str) -> C {
        self.processes[0].directory().client(caller)
    }

    /// Gets a page of the admin port of the first process.
    pub async fn admin(&self, path: &str) -> crate::Reply {
        let base = format!("http://{}", self.processes[0].addresses().admin);
        Caller {
            client: self.client.clone(),
            base,
            headers: HeaderMap::new(),
        }
        .get(path)
        .await
    }

    /// Ends one process as a signal does; those behind it move up.
    pub async fn stop_process(&mut self, position: usize) {
        self.processes.remove(position).stop().await;
    }

    /// Ends the processes as a signal does.
    pub async fn stop(self) {
        for process in self.processes {
            process.stop().await;
        }
    }
}
