//! A control plane and a data plane that were started with different values of `dataplane.inner_ipv4`: what both
//! take goes in, and nothing is lost without a word. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod driver_support;
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
#[path = "driver_support/dataplane.rs"]
mod fake;

use std::path::PathBuf;

use driver_support::{Daemon, Namespace, eventually};
use fake::{FakeDataplane, Inner};
use kedge_dataplane_api::Tables;

const NODE: &str = "::ffff:203.0.113.7/128";
const POOL: &str = "::ffff:203.0.113.0/120";

/// A MAAR with a node that has IPv4, if its file says that IPv4 is carried.
struct Scene {
    maar: Daemon,
    // Removed after the daemon has gone.
    _namespace: Namespace,
    directory: tempfile::TempDir,
}

fn socket(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("maar1/run/dataplane.sock")
}

fn file(carries: bool) -> String {
    let (setting, pools, node) = match carries {
        true => (
            "inner_ipv4 = \"carry\"",
            "ipv4_pools = [\"203.0.113.0/24\"]",
            "[[maar.ipv4]]\nprefix = \"203.0.113.7/32\"\npeer = \"2001:db8:b::1\"\ntunnel = \"gtpu\"\nlocal_id = 7\nremote_id = 8",
        ),
        false => ("inner_ipv4 = \"refuse\"", "", ""),
    };
    format!(
        r#"
        [dataplane]
        {setting}
        [[port]]
        name = "core"
        device = "net_null1"
        side = "core"
        exception = "kcore"
        addresses = ["2001:db8:ca::2/64"]
        [[route]]
        prefix = "::/0"
        port = "core"
        gateway = "2001:db8:ca::1"
        [maar]
        cmd = ["2001:db8:d::1"]
        prefix_pools = ["2001:db8:100::/48"]
        {pools}
        {node}
        "#
    )
}

impl Scene {
    fn new(directory: tempfile::TempDir, carries: bool) -> Self {
        let namespace = Namespace::new("maar");
        let maar = Daemon::start(
            &namespace,
            directory.path(),
            "maar1",
            "maar",
            "2001:db8:a::1",
            &file(carries),
        );
        Self {
            maar,
            _namespace: namespace,
            directory,
        }
    }

    /// A data plane that is started now.
    fn dataplane(&self, inner: Inner) -> FakeDataplane {
        FakeDataplane::start_with(&socket(&self.directory), inner)
    }

    fn remarks(&self) -> Vec<String> {
        // It may not answer yet; that it does not is not that it has nothing to say.
        let remarks = eventually("the control plane's answer", || {
            let info = self.maar.json(&["show", "info"]);
            let remarks = &info["controlplane"]["dataplane_remarks"];
            remarks.is_array().then(|| remarks.clone())
        });
        serde_json::from_value(remarks).unwrap()
    }

    fn add_filter(&self, name: &str) {
        let arguments = ["--domain", "--protocol", "17", "--action", "drop"];
        let output = self
            .maar
            .kedge(&[&["filter", "add", name][..], &arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }

    /// How often an event of this kind was told.
    fn told(&self, kind: &str) -> usize {
        self.maar.log().matches(kind).count()
    }
}

fn has(tables: &Tables, prefix: &str) -> bool {
    tables.prefixes.contains_key(&prefix.parse().unwrap())
}

fn wait(dataplane: &FakeDataplane, what: &str, is: impl Fn(&Tables) -> bool) -> Tables {
    eventually(what, || {
        let tables = dataplane.tables();
        is(&tables).then_some(tables)
    })
}

#[test]
fn what_is_not_ipv4_goes_into_a_data_plane_that_refuses_it_and_the_rest_when_it_carries_it() {
    let directory = tempfile::tempdir().unwrap();
    let refusing = FakeDataplane::start_with(&socket(&directory), Inner::with_inner_ipv4(false));
    let scene = Scene::new(directory, true);
    let tables = wait(&refusing, "what is not IPv4", |it| has(it, "2001:db8:100::/48"));
    assert!(has(&tables, "::/0") && !has(&tables, NODE) && !has(&tables, POOL));
    assert!(tables.tunnels.is_empty());

    // What changes later goes in as well.
    scene.add_filter("one");
    wait(&refusing, "a filter", |it| it.filters.len() == 1);
    assert_eq!(refusing.inner.lock().unwrap().refused, 0);

    // It is told once, and shown as long as it lasts, with both settings and the remedy.
    assert_eq!(scene.told("inner_ipv4_mismatch"), 1);
    scene.maar.wait_for_counter("inner_ipv4_mismatches", 1);
    scene.maar.wait_for_counter("transactions_refused", 0);
    let remarks = scene.remarks();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    for part in [
        "\"carry\"",
        "\"refuse\"",
        "(maar.ipv4: 1)",
        "restart kedge-dataplane",
    ] {
        assert!(remarks[0].contains(part), "{remarks:?}");
    }
    let shown = scene.maar.kedge(&["show", "info"]).stdout;
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains(&remarks[0]), "{shown}");
    assert_eq!(
        scene.maar.json(&["show", "info"])["dataplane"]["inner_ipv4"],
        "refuse"
    );

    // Started again as it was: nothing else, and told again.
    drop(refusing);
    let refusing = scene.dataplane(Inner::with_inner_ipv4(false));
    wait(&refusing, "the refill", |it| {
        it.filters.len() == 1 && it.prefixes == tables.prefixes
    });
    eventually("it is told", || {
        (scene.told("inner_ipv4_mismatch") == 2).then_some(())
    });
    assert_eq!(refusing.inner.lock().unwrap().refused, 0);

    // Started again as it should be.
    drop(refusing);
    let carrying = scene.dataplane(Inner::with_inner_ipv4(true));
    let all = wait(&carrying, "all of it", |it| has(it, NODE));
    assert!(has(&all, POOL) && has(&all, "2001:db8:100::/48"));
    assert_eq!((all.tunnels.len(), all.filters.len()), (1, 1));
    eventually("the end of the mismatch", || {
        (scene.told("inner_ipv4_agreed") == 1 && scene.remarks().is_empty()).then_some(())
    });

    // From one that carries it to one that does not: that gets no IPv4 either.
    drop(carrying);
    let refusing = scene.dataplane(Inner::with_inner_ipv4(false));
    wait(&refusing, "what is not IPv4", |it| has(it, "2001:db8:100::/48"));
    assert!(!has(&refusing.tables(), NODE));
    assert_eq!(refusing.inner.lock().unwrap().refused, 0);
    assert_eq!(scene.remarks().len(), 1);
}

#[test]
fn a_control_plane_that_refuses_it_says_so_of_a_data_plane_that_carries_it() {
    let directory = tempfile::tempdir().unwrap();
    let carrying = FakeDataplane::start_with(&socket(&directory), Inner::with_inner_ipv4(true));
    let scene = Scene::new(directory, false);
    wait(&carrying, "its tables", |it| has(it, "2001:db8:100::/48"));
    scene.add_filter("one");
    wait(&carrying, "a filter", |it| it.filters.len() == 1);
    let remarks = eventually("it is told", || {
        let remarks = scene.remarks();
        (!remarks.is_empty()).then_some(remarks)
    });
    assert_eq!(scene.told("inner_ipv4_mismatch"), 1);
    assert!(
        remarks.len() == 1 && remarks[0].contains("or kedge-controlplane with \"carry\""),
        "{remarks:?}"
    );
}

/// One of an older version does not say what it does: then nothing goes in, and `kedge show info` says why.
#[test]
fn what_a_data_plane_refuses_without_having_said_so_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let inner = Inner {
        refuses_inner_ipv4: true,
        ..Inner::default()
    };
    let silent = FakeDataplane::start_with(&socket(&directory), inner);
    let scene = Scene::new(directory, true);
    let remark = eventually("the refusal", || scene.remarks().pop());
    assert!(
        remark.contains("takes no change") && remark.contains("dataplane.inner_ipv4 = \"refuse\""),
        "{remark}"
    );
    scene.add_filter("one");
    let before = silent.inner.lock().unwrap().refused;
    eventually("another attempt", || {
        (silent.inner.lock().unwrap().refused > before + 1).then_some(())
    });
    assert_eq!(silent.tables(), Tables::default());
    assert_eq!(scene.told("dataplane_refused"), 1);
    assert!(scene.maar.counter("transactions_refused") > 1);

    drop(silent);
    let carrying = scene.dataplane(Inner::with_inner_ipv4(true));
    wait(&carrying, "all of it", |it| {
        has(it, NODE) && it.filters.len() == 1
    });
    eventually("the end of it", || scene.remarks().is_empty().then_some(()));
}
