//! Ids with a time each, on disk, in parts that fit into memory: so that what is compared at the end
//! may be as much as the disk takes. A part is chosen by the id, so that equal ids meet in equal
//! parts.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// With 50 million ids a part has 800,000, which take 19 MB.
pub(super) const PARTS: usize = 64;
const RECORD: usize = 24;

/// An id and a time in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) id: u128,
    pub(super) at_ms: u64,
}

/// Entries in temporary files, which disappear with it.
#[derive(Debug)]
pub(super) struct Partitions {
    parts: Vec<BufWriter<File>>,
    count: u64,
}

impl Partitions {
    /// Empty ones; the files are in `folder`, without names.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        let parts = (0..PARTS)
            .map(|_| tempfile::tempfile_in(folder).map(BufWriter::new))
            .collect::<io::Result<_>>()?;
        Ok(Self { parts, count: 0 })
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// Adds one.
    pub(super) fn push(&mut self, entry: Entry) -> io::Result<()> {
        // The last bytes of a UUIDv7 are random.
        let part = &mut self.parts[(entry.id % PARTS as u128) as usize];
        part.write_all(&entry.id.to_le_bytes())?;
        part.write_all(&entry.at_ms.to_le_bytes())?;
        self.count += 1;
        Ok(())
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        for part in &mut self.parts {
            part.flush()?;
            part.get_mut().set_len(0)?;
            part.seek(SeekFrom::Start(0))?;
        }
        self.count = 0;
        Ok(())
    }

    /// A part's entries in order.
    pub(super) fn sorted(&mut self, part: usize) -> io::Result<Vec<Entry>> {
        let file = &mut self.parts[part];
        file.flush()?;
        let mut reader = BufReader::new(file.get_ref());
        reader.seek(SeekFrom::Start(0))?;
        let mut entries = Vec::new();
        let mut record = [0; RECORD];
        while read_record(&mut reader, &mut record)? {
            let (id, at_ms) = record.split_at(16);
            entries.push(Entry {
                id: u128::from_le_bytes(id.try_into().unwrap_or_default()),
                at_ms: u64::from_le_bytes(at_ms.try_into().unwrap_or_default()),
            });
        }
        // The writer goes on at the end, where reading has stopped.
        file.seek(SeekFrom::End(0))?;
        entries.sort_unstable();
        Ok(entries)
    }
}

/// False at the end.
fn read_record(reader: &mut impl Read, record: &mut [u8; RECORD]) -> io::Result<bool> {
    match reader.read_exact(record) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_order_and_more_can_follow() {
        let folder = tempfile::tempdir().unwrap();
        let mut partitions = Partitions::create(folder.path()).unwrap();
        let entry = |id| Entry { id, at_ms: (id * 2) as u64 };
        for round in 0..2_u128 {
            for id in (0..1_000).rev() {
                partitions.push(entry(round * 1_000 + id)).unwrap();
            }
            let mut all: Vec<Entry> =
                (0..PARTS).flat_map(|part| partitions.sorted(part).unwrap()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..(round + 1) * 1_000).map(entry).collect::<Vec<_>>());
        }
        partitions.clear().unwrap();
        assert_eq!(partitions.len(), 0);
        assert!((0..PARTS).all(|part| partitions.sorted(part).unwrap().is_empty()));
        partitions.push(entry(5)).unwrap();
        assert_eq!(partitions.sorted(5).unwrap(), [entry(5)]);
    }
}
