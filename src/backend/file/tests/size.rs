// SPDX-License-Identifier: BSD-2-Clause

//! How a change of the size becomes known.

use std::sync::Arc;

use super::fake::{Call, Fake};
use crate::backend::file::{File, OpenOptions};
use crate::backend::sys::{FreeBsd, Linux, Policy, Request};
use crate::backend::{Backend, Error, SizeEvents};

/// A word that never comes.
struct Silence;

impl SizeEvents for Silence {
    fn wait(&self) -> bool {
        false
    }

    fn end(&self) {}
}

/// The calls of opening `fake`, and the store.
fn opened<P: Policy>(fake: &Fake) -> (Vec<Call>, File<Fake, P>) {
    fake.log();
    let options = OpenOptions::default();
    let store = File::open(fake.clone(), std::path::Path::new("disk"), &options).unwrap();
    (fake.log(), store)
}

/// While there is the right to, and before the size is asked for.
#[test]
fn a_file_on_freebsd_is_watched_as_it_opens() {
    let fake = Fake::file(65536);
    let events: Arc<dyn SizeEvents> = Arc::new(Silence);
    fake.with(|s| s.size_events = Some(events.clone()));
    let (calls, store) = opened::<FreeBsd>(&fake);
    let [Call::Stat, Call::Open(_), Call::Fstat, Call::WatchSize, Call::Fstat, .., Call::Limit(_)] =
        calls[..]
    else {
        panic!("{calls:?}");
    };
    assert!(Arc::ptr_eq(&store.size_events().unwrap(), &events));
    assert!(store.can_resize());
}

#[test]
fn what_cannot_be_watched_is_asked() {
    // A file system without events.
    let (calls, store) = opened::<FreeBsd>(&Fake::file(65536));
    assert!(calls.contains(&Call::WatchSize));
    assert!(store.size_events().is_none() && store.can_resize());

    let device = Fake::freebsd_device(65536, 512, 0);
    let (calls, store) = opened::<FreeBsd>(&device);
    assert!(!calls.contains(&Call::WatchSize));
    assert!(store.size_events().is_none() && store.can_resize());

    let (calls, store) = opened::<Linux>(&Fake::file(65536));
    assert!(!calls.contains(&Call::WatchSize));
    assert!(store.size_events().is_none() && store.can_resize());
}

#[test]
fn the_size_is_asked_of_a_file_by_fstat_and_of_a_device_by_its_request() {
    let (file, device) = (Fake::file(65536), Fake::freebsd_device(65536, 512, 0));
    for (fake, call) in [(&file, Call::Fstat), (&device, Call::Ioctl(Request::DIOCGMEDIASIZE))] {
        let store = fake.store::<FreeBsd>();
        for size in [131072, 4096] {
            fake.with(|s| s.data.resize(size, 0));
            assert_eq!(store.refresh(), Ok(size as u64));
            assert_eq!(store.geometry().size, size as u64);
            assert_eq!(fake.log(), std::slice::from_ref(&call));
        }
        assert_eq!(store.write_zeroes(4096, 512, false), Err(Error::OutOfRange));
        assert_eq!(fake.log(), []);
    }
}
