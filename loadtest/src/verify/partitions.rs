//! Ids with their times on disk, in parts that fit into memory, so that only the disk limits how many
//! can be compared. The id decides the part, so that equal ids are in the same part.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Number of parts. Of 50 million ids, a part has 800,000, which take 38 MB.
pub(super) const PARTS: usize = 64;
const RECORD: usize = 48;

/// An id and a time in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) id: u128,
    pub(super) at_ms: u64,
    /// Id of the event that it is linked to; 0 if none.
    pub(super) link: u128,
    /// Digest of what the row holds, or has to hold; 0 if that is not known.
    pub(super) digest: u64,
}

/// Entries in temporary files, which are removed on drop.
#[derive(Debug)]
pub(super) struct Partitions {
    parts: Vec<BufWriter<File>>,
    count: u64,
}

impl Partitions {
    /// Creates empty parts as unnamed files in `folder`.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        let parts = (0..PARTS)
            .map(|_| tempfile::tempfile_in(folder).map(BufWriter::new))
            .collect::<io::Result<_>>()?;
        Ok(Self { parts, count: 0 })
    }

    pub(super) fn len(&self) -> u64 {
        self.count
    }

    pub(super) fn push(&mut self, entry: Entry) -> io::Result<()> {
        // The last bytes of a UUIDv7 are random.
        let part = &mut self.parts[(entry.id % PARTS as u128) as usize];
        part.write_all(&entry.id.to_le_bytes())?;
        part.write_all(&entry.at_ms.to_le_bytes())?;
        part.write_all(&entry.link.to_le_bytes())?;
        part.write_all(&entry.digest.to_le_bytes())?;
        self.count += 1;
        Ok(())
    }

    pub(super) fn clear(&mut self) -> io::Result<()> {
        for part in &mut self.parts {
            part.flush()?;
            part.get_mut().set_len(0)?;
            part.seek(SeekFrom::Start(0))?;
        }
        self.count = 0;
        Ok(())
    }

    /// Reads a part's entries, sorted by id and then by time.
    pub(super) fn read_sorted(&mut self, part: usize) -> io::Result<Vec<Entry>> {
        let file = &mut self.parts[part];
        file.flush()?;
        let mut reader = BufReader::new(file.get_ref());
        reader.seek(SeekFrom::Start(0))?;
        let mut entries = Vec::new();
        let mut record = [0; RECORD];
        while read_record(&mut reader, &mut record)? {
            let (id, rest) = record.split_at(16);
            let (at_ms, rest) = rest.split_at(8);
            let (link, digest) = rest.split_at(16);
            entries.push(Entry {
                id: u128::from_le_bytes(id.try_into().unwrap_or_default()),
                at_ms: u64::from_le_bytes(at_ms.try_into().unwrap_or_default()),
                link: u128::from_le_bytes(link.try_into().unwrap_or_default()),
                digest: u64::from_le_bytes(digest.try_into().unwrap_or_default()),
            });
        }
        // Writing continues at the end.
        file.seek(SeekFrom::End(0))?;
        entries.sort_unstable();
        Ok(entries)
    }
}

/// Reads the next record; false at the end.
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
    fn reads_entries_sorted_between_writes() {
        let folder = tempfile::tempdir().unwrap();
        let mut partitions = Partitions::create(folder.path()).unwrap();
        let entry =
            |id| Entry { id, at_ms: (id * 2) as u64, link: id * 3, digest: (id * 5) as u64 };
        for round in 0..2_u128 {
            for id in (0..1_000).rev() {
                partitions.push(entry(round * 1_000 + id)).unwrap();
            }
            let mut all: Vec<Entry> =
                (0..PARTS).flat_map(|part| partitions.read_sorted(part).unwrap()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..(round + 1) * 1_000).map(entry).collect::<Vec<_>>());
        }
        partitions.clear().unwrap();
        assert_eq!(partitions.len(), 0);
        assert!((0..PARTS).all(|part| partitions.read_sorted(part).unwrap().is_empty()));
        partitions.push(entry(5)).unwrap();
        assert_eq!(partitions.read_sorted(5).unwrap(), [entry(5)]);
    }
}
