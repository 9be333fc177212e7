// Verifies what a ledger made, with the packages that Go's own checksum database is built on.
//
// Reads one case a line (JSON) and answers each with a line: "ok", or why not.
package main

import (
	"bufio"
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
	opened, err := note.Open(c.Note, note.VerifierList(verifier))
	if err != nil {
		return err
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
