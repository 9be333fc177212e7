// Verifies what a ledger made, with the packages that Go's own checksum database is built on.
//
// Reads one case a line (JSON) and answers each with a line: "ok", or why not.
package main

import (
	"bufio"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type testCase struct {
	Note        []byte
	VerifierKey string
	Index       int64
	Entry       []byte
	Inclusion   [][]byte
	OldSize     int64
	OldRoot     []byte
	Consistency [][]byte
	Tiles       map[string][]byte // "level/index/width" to content
	Cosigners   []string          // verifier keys of type 0x04; all of them must have signed the note
}

// cosigner verifies cosignature/v1 (https://c2sp.org/tlog-cosignature) as one of Go's note verifiers.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	head := fmt.Sprintf("cosignature/v1\ntime %d\n", binary.BigEndian.Uint64(sig))
	return ed25519.Verify(c.key, append([]byte(head), msg...), sig[8:])
}

func newCosigner(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("no verifier key")
	}
	id, err := hex.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	typed, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(id) != 4 || len(typed) != 33 || typed[0] != 4 {
		return nil, fmt.Errorf("no cosigner's key")
	}
	return cosigner{parts[0], binary.BigEndian.Uint32(id), typed[1:]}, nil
}

func hash(data []byte) (h tlog.Hash) {
	copy(h[:], data)
	return h
}

func hashes(all [][]byte) (found []tlog.Hash) {
	for _, data := range all {
		found = append(found, hash(data))
	}
	return found
}

// tiles reads a log's tiles; TileHashReader checks them against the tree before it uses them.
type tiles map[string][]byte

func (t tiles) Height() int                     { return 8 }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		data, ok := t[fmt.Sprintf("%d/%d/%d", tile.L, tile.N, tile.W)]
		if !ok {
			return nil, fmt.Errorf("no tile %v", tile)
		}
		found = append(found, data)
	}
	return found, nil
}

func check(c testCase) error {
	verifier, err := note.NewVerifier(c.VerifierKey)
	if err != nil {
		return err
	}
	verifiers := []note.Verifier{verifier}
	for _, vkey := range c.Cosigners {
		cosigner, err := newCosigner(vkey)
		if err != nil {
			return err
		}
		verifiers = append(verifiers, cosigner)
	}
	opened, err := note.Open(c.Note, note.VerifierList(verifiers...))
	if err != nil {
		return err
	}
	if len(opened.Sigs) != len(verifiers) {
		return fmt.Errorf("%d of %d have signed", len(opened.Sigs), len(verifiers))
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return err
	}
	var root tlog.Hash
	if err := root.UnmarshalJSON([]byte(`"` + lines[2] + `"`)); err != nil {
		return err
	}
	leaf := tlog.RecordHash(c.Entry)
	if err := tlog.CheckRecord(hashes(c.Inclusion), size, root, c.Index, leaf); err != nil {
		return fmt.Errorf("inclusion: %w", err)
	}
	if err := tlog.CheckTree(hashes(c.Consistency), size, root, c.OldSize, hash(c.OldRoot)); err != nil {
		return fmt.Errorf("consistency: %w", err)
	}
	if c.Tiles != nil {
		reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tiles(c.Tiles))
		proof, err := tlog.ProveRecord(size, c.Index, reader)
		if err != nil {
			return fmt.Errorf("tiles: %w", err)
		}
		if fmt.Sprint(proof) != fmt.Sprint(tlog.RecordProof(hashes(c.Inclusion))) {
			return fmt.Errorf("tiles give another proof")
		}
	}
	return nil
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<24)
	for input.Scan() {
		var c testCase
		err := json.Unmarshal(input.Bytes(), &c)
		if err == nil {
			err = check(c)
		}
		if err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok")
		}
	}
}
