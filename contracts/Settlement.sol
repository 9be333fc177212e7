// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title The settlement rules of Joulemesh as a contract: one venue, one token, nobody in charge.
/// @notice Clause numbers are those of docs/spec/settlement.md; docs/spec/contract.md says which hold here, and how.
/// Money is counted in micro-units, a millionth of the token. What is held for sessions is not stored: a session is one
/// slot with a hash of its marks, which whoever acts on it hands in again. A mark is 16 bytes: what a leg was paid, and
/// its ceiling. Nothing here can be changed, paused or upgraded.
contract Settlement is EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20Metadata;

    /// @notice A leg is its provider's address, times 2^64, plus its cap.
    struct Session {
        address client;
        uint40 expiry;
        bytes32 terms;
        bytes32 salt;
        uint224[] legs;
    }

    /// @notice A voucher, the session that it is for, and that session's marks as they stand.
    struct Claim {
        Session session;
        bytes marks;
        uint64[] amounts;
        uint64 tokensIn;
        uint64 tokensOut;
        bytes32 receipts;
        bytes32 r;
        bytes32 vs;
    }

    struct Receipt {
        bytes32 session;
        uint8 leg;
        uint32 window;
        uint64 tokensIn;
        uint64 tokensOut;
        uint64 rows;
        bytes32 input;
        bytes32 output;
        bytes32 tokens;
        bytes32 nonce;
        bytes32 sketches;
        uint64 millijoules;
        string source;
        uint32 pueMilli;
        uint32 p50Us;
        uint32 p95Us;
        uint64 late;
    }

    struct Checkpoint {
        bytes32 origin;
        uint64 size;
        bytes32 root;
    }

    /// @notice An EIP-2098 signature: the only form that is taken.
    struct Signature {
        bytes32 r;
        bytes32 vs;
    }

    struct Account {
        uint64 free;
        uint64 bond;
        uint64 unbonding;
        uint40 unlockAt;
    }

    event Deposited(address indexed account, uint64 amount);
    event Withdrawn(address indexed account, address indexed to, uint64 amount);
    event Opened(bytes32 indexed session, address indexed client);
    /// @notice A session stays open after a voucher or discharges. The data are its marks, as they are.
    event Marked(bytes32 indexed session);
    event Closed(bytes32 indexed session);
    event Staked(address indexed account, uint64 amount);
    event Unstaked(address indexed account, uint64 amount, uint40 unlockAt);
    event Unbonded(address indexed account, uint64 amount);
    event Slashed(address indexed accused, address indexed by, uint64 penalty, uint64 reward);

    error Decimals();
    error Transfer();
    error Amount();
    error Balance();
    error Overflow();
    error BadSignature();
    error Expiry();
    error Exists();
    error UnknownSession();
    error SessionClosed();
    error Stale();
    error Mismatch();
    error Cap();
    error Expired();
    error NothingRises();
    error NothingFreed();
    error Early();
    error Bond();
    error Proof();
    error NothingStaked();

    bytes32 private constant LEG = keccak256("Leg(address provider,uint64 cap)");
    bytes32 private constant SESSION = keccak256(
        "Session(address client,uint40 expiry,bytes32 terms,bytes32 salt,Leg[] legs)Leg(address provider,uint64 cap)"
    );
    bytes32 private constant VOUCHER = keccak256(
        "Voucher(bytes32 session,uint64[] amounts,uint64 tokensIn,uint64 tokensOut,bytes32 receipts)"
    );
    bytes32 private constant DISCHARGE = keccak256("Discharge(bytes32 session,uint8 leg,uint64 amount)");
    bytes32 private constant RECEIPT = keccak256(
        "Receipt(bytes32 session,uint8 leg,uint32 window,uint64 tokensIn,uint64 tokensOut,uint64 rows,bytes32 input,"
        "bytes32 output,bytes32 tokens,bytes32 nonce,bytes32 sketches,uint64 millijoules,string source,uint32 pueMilli,"
        "uint32 p50Us,uint32 p95Us,uint64 late)"
    );
    bytes32 private constant CHECKPOINT = keccak256("Checkpoint(bytes32 origin,uint64 size,bytes32 root)");

    /// @dev L2: what ledgers sign under. The chain id is no chain's.
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant NAME = keccak256("joulemesh");
    bytes32 private constant VERSION = keccak256("2");
    uint256 private constant LEDGER_CHAIN = 0x6A6F756C65;

    /// @dev In a session's slot, once nothing is held for it. No hash of marks is this number.
    bytes32 private constant CLOSED = bytes32(uint256(1));
    uint256 private constant MAX_LEGS = 16;
    uint256 private constant DISCHARGE_BYTES = 73;
    uint256 private constant MAX_MONEY = 2 ** 63 - 1;
    uint256 private constant MAX_SESSION = 90 days;

    IERC20Metadata public immutable token;
    /// @notice Units of the token in a micro-unit.
    uint256 public immutable scale;
    /// @notice Seconds after expiry in which vouchers are redeemed.
    uint40 public immutable grace;
    /// @notice Seconds that a bond waits before it is free.
    uint40 public immutable unbonding;
    /// @notice Micro-units of penalties that nobody can have any more; the tokens stay here for good.
    uint256 public burned;

    mapping(address account => Account) public accounts;
    /// @notice 0: not known; 1: closed; else the hash of the session's marks.
    mapping(bytes32 session => bytes32) public sessions;

    constructor(IERC20Metadata token_, uint40 grace_, uint40 unbonding_) EIP712("joulemesh", "2") {
        uint8 decimals = token_.decimals();
        if (decimals != 6 && decimals != 18) revert Decimals();
        token = token_;
        scale = 10 ** (decimals - 6);
        grace = grace_;
        unbonding = unbonding_;
    }

    // L6: deposit and withdraw

    /// @notice Credit what an approval of the token allows to be taken. Tokens that take a fee are refused.
    function deposit(uint64 amount) external nonReentrant {
        _requirePositive(amount);
        uint256 units = amount * scale;
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), units);
        if (token.balanceOf(address(this)) != before + units) revert Transfer();
        _credit(msg.sender, amount);
        emit Deposited(msg.sender, amount);
    }

    function withdraw(address to, uint64 amount) external nonReentrant {
        _requirePositive(amount);
        _debit(msg.sender, amount);
        emit Withdrawn(msg.sender, to, amount);
        token.safeTransfer(to, amount * scale);
    }

    // L7: open

    function open(Session calldata session) external {
        if (session.client != msg.sender) revert BadSignature();
        _open(session, _id(session, session.legs));
    }

    /// @notice Open a session that its client has signed; whoever sends this pays the gas.
    function openFor(Session calldata session, Signature calldata signature) external {
        bytes32 id = _id(session, session.legs);
        _requireSigner(id, signature.r, signature.vs, session.client);
        _open(session, id);
    }

    function _open(Session calldata session, bytes32 id) private {
        uint256 count = session.legs.length;
        if (count == 0 || count > MAX_LEGS) revert Mismatch();
        if (session.expiry <= block.timestamp || session.expiry > block.timestamp + MAX_SESSION) revert Expiry();
        if (sessions[id] != 0) revert Exists();
        bytes memory marks = new bytes(16 * count);
        uint256 caps = 0;
        for (uint256 i = 0; i < count; ++i) {
            uint64 cap = uint64(session.legs[i]);
            _move(marks, i, cap);
            caps += cap;
        }
        _requirePositive(caps);
        _debit(session.client, caps);
        sessions[id] = keccak256(marks);
        emit Opened(id, session.client);
    }

    // L8: settle

    function settle(Claim[] calldata claims) external {
        for (uint256 i = 0; i < claims.length; ++i) _settle(claims[i]);
    }

    function _settle(Claim calldata claim) private {
        Session calldata session = claim.session;
        uint224[] calldata legs = session.legs;
        bytes32 id = _id(session, legs);
        bytes memory marks = _marks(session, id, claim.marks);
        // (1) the client's word, an amount for each leg, none above its cap
        _requireSigner(_hashVoucher(claim, id), claim.r, claim.vs, session.client);
        // (3) each leg's amount rises on its own, up to its ceiling
        (bool risen, uint256 held) = _pay(legs, marks, claim.amounts);
        // (2) in time
        if (block.timestamp > _end(session)) revert Expired();
        if (!risen) revert NothingRises();
        _store(id, marks, held);
    }

    function _pay(uint224[] calldata legs, bytes memory marks, uint64[] calldata amounts)
        private
        returns (bool risen, uint256 held)
    {
        uint256 count = legs.length;
        if (amounts.length != count) revert Mismatch();
        for (uint256 i = 0; i < count; ++i) {
            uint256 amount = amounts[i];
            uint224 leg = legs[i];
            if (amount > uint64(leg)) revert Cap();
            // what is held for a session its client once had: nothing here overflows
            unchecked {
                (uint256 settled, uint256 ceiling) = _markOf(marks, i);
                if (amount > ceiling) amount = ceiling;
                if (amount > settled) {
                    risen = true;
                    _credit(_provider(leg), amount - settled);
                    _move(marks, i, (amount - settled) << 64);
                    settled = amount;
                }
                held += ceiling - settled;
            }
        }
    }

    // L9: release

    /// @param said The session's marks, and after them its legs' discharges. Each is 73 bytes: the leg's index (1), the
    /// amount (8), `r` and `vs` (32 each).
    function release(Session calldata session, bytes calldata said) external {
        uint224[] calldata legs = session.legs;
        bytes32 id = _id(session, legs);
        (bytes calldata given, uint256 place, uint256 end) = _span(said, legs.length);
        bytes memory marks = _marks(session, id, given);
        (uint256 held, uint256 freed) = (_held(marks), 0);
        uint256 form = _form(id);
        // what is held for a session its client once had, and a place is one in calldata: nothing here overflows
        unchecked {
            for (; place != end; place += DISCHARGE_BYTES) {
                (uint256 leg, uint256 amount) = _claim(form, place);
                // (1) the leg's own word
                if (leg >= legs.length) _refuse(session, freed == held, Mismatch.selector);
                if (!_isDischarged(form, place, _providerOf(legs, leg))) {
                    _refuse(session, freed == held, BadSignature.selector);
                }
                // (2) it frees something, and nothing that is settled
                (uint256 settled, uint256 ceiling) = _markOf(marks, leg);
                if (amount < settled) amount = settled;
                if (amount >= ceiling) _refuse(session, freed == held, NothingFreed.selector);
                freed += ceiling - amount;
                _move(marks, leg, amount - ceiling);
            }
        }
        _requirePositive(freed);
        _credit(session.client, freed);
        _store(id, marks, held - freed);
    }

    /// @dev Refuse a discharge: where the ones before it have closed the session, for that. It is asked here alone, for
    /// then there is nothing that one could free.
    function _refuse(Session calldata session, bool closed, bytes4 why) private view {
        if (closed) {
            _requireKnown(session, CLOSED);
            why = SessionClosed.selector;
        }
        assembly ("memory-safe") {
            mstore(0, why)
            revert(0, 4)
        }
    }

    /// @dev Marks, and where the discharges stand in calldata that follow. A loop that counts them would reckon each
    /// place several times.
    function _span(bytes calldata said, uint256 count)
        private
        pure
        returns (bytes calldata given, uint256 place, uint256 end)
    {
        assembly ("memory-safe") {
            given.offset := said.offset
            given.length := shl(4, count)
            place := add(said.offset, given.length)
            end := add(said.offset, said.length)
        }
        unchecked {
            if (place > end || (end - place) % DISCHARGE_BYTES != 0) revert Mismatch();
        }
    }

    /// @dev Take what the discharge at this place says into its form.
    function _claim(uint256 form, uint256 place) private pure returns (uint256 leg, uint256 amount) {
        assembly ("memory-safe") {
            calldatacopy(add(form, 95), place, 1)
            calldatacopy(add(form, 120), add(place, 1), 8)
            leg := mload(add(form, 64))
            amount := mload(add(form, 96))
        }
    }

    /// @dev The provider of a leg that whoever asks has compared with how many there are.
    function _providerOf(uint224[] calldata legs, uint256 leg) private pure returns (uint256 provider) {
        assembly ("memory-safe") {
            provider := shr(64, calldataload(add(legs.offset, shl(5, leg))))
        }
    }

    /// @dev Memory for `_isDischarged`: the words of a discharge, those of its digest, those of its signature.
    function _form(bytes32 id) private view returns (uint256 form) {
        (bytes32 kind, bytes32 domain) = (DISCHARGE, _domainSeparatorV4());
        assembly ("memory-safe") {
            form := mload(64)
            mstore(64, add(form, 352))
            mstore(form, kind)
            mstore(add(form, 32), id)
            mstore(add(form, 64), 0)
            mstore(add(form, 96), 0)
            mstore(add(form, 128), shl(240, 0x1901))
            mstore(add(form, 130), domain)
        }
    }

    /// @dev Whether the discharge at this place is a provider's. Where nobody has signed it, the word that is compared
    /// stays what it was, which is no provider at all.
    function _isDischarged(uint256 form, uint256 place, uint256 provider)
        private
        view
        returns (bool signed)
    {
        assembly ("memory-safe") {
            mstore(add(form, 162), keccak256(form, 128))
            mstore(add(form, 224), keccak256(add(form, 128), 66))
            let vs := calldataload(add(place, 41))
            mstore(add(form, 256), add(27, shr(255, vs)))
            mstore(add(form, 288), calldataload(add(place, 9)))
            mstore(add(form, 320), shr(1, shl(1, vs)))
            mstore(0, not(provider))
            pop(staticcall(gas(), 1, add(form, 224), 128, 0, 32))
            signed := eq(mload(0), provider)
        }
    }

    // L10: close

    function close(Session calldata session, bytes calldata given) external {
        bytes32 id = _id(session, session.legs);
        bytes memory marks = _marks(session, id, given);
        if (block.timestamp <= _end(session)) revert Early();
        // L19: its expiry is past, so that it cannot be opened again
        delete sessions[id];
        _credit(session.client, _held(marks));
        emit Closed(id);
    }

    // L14 to L16: stake, unstake, unbond

    function stake(uint64 amount) external {
        _requirePositive(amount);
        _debit(msg.sender, amount);
        Account storage account = accounts[msg.sender];
        _sum(uint256(account.bond) + account.unbonding, amount);
        account.bond += amount;
        emit Staked(msg.sender, amount);
    }

    function unstake(uint64 amount) external {
        _requirePositive(amount);
        Account storage account = accounts[msg.sender];
        if (account.bond < amount) revert Bond();
        account.bond -= amount;
        account.unbonding += amount;
        account.unlockAt = uint40(block.timestamp) + unbonding;
        emit Unstaked(msg.sender, amount, account.unlockAt);
    }

    function unbond() external {
        Account storage account = accounts[msg.sender];
        uint64 amount = account.unbonding;
        _requirePositive(amount);
        if (block.timestamp < account.unlockAt) revert Early();
        (account.unbonding, account.unlockAt) = (0, 0);
        _credit(msg.sender, amount);
        emit Unbonded(msg.sender, amount);
    }

    // L17: slash for what proves itself

    /// @notice Two receipts of one leg for one window, made with one nonce: the provider's whole stake is lost.
    function slash(
        Session calldata session,
        Receipt calldata first,
        Signature calldata firstBy,
        Receipt calldata second,
        Signature calldata secondBy
    ) external {
        bytes32 id = _id(session, session.legs);
        _requireKnown(session, sessions[id]);
        if (first.session != id || second.session != id || first.leg >= session.legs.length) revert Proof();
        if (first.leg != second.leg || first.window != second.window) revert Proof();
        if (first.nonce == 0 || first.nonce != second.nonce) revert Proof();
        (bytes32 one, bytes32 other) = (_hashReceipt(first), _hashReceipt(second));
        if (one >= other) revert Proof();
        address provider = _provider(session.legs[first.leg]);
        _requireSigner(one, firstBy.r, firstBy.vs, provider);
        _requireSigner(other, secondBy.r, secondBy.vs, provider);
        _slash(provider);
    }

    /// @notice Two checkpoints of one log with one size and two roots: the stake of whoever signed both is lost.
    /// @param ledger The address in the domain of the ledger whose log it is: an operator signs for its own ledger, and
    /// its bond here answers for that.
    function equivocation(
        address ledger,
        Checkpoint calldata first,
        Signature calldata firstBy,
        Checkpoint calldata second,
        Signature calldata secondBy
    ) external {
        if (first.origin != second.origin || first.size != second.size || first.root == second.root) revert Proof();
        (bytes32 one, bytes32 other) = (_hashCheckpoint(first), _hashCheckpoint(second));
        if (one >= other) revert Proof();
        bytes32 domain = keccak256(abi.encode(DOMAIN, NAME, VERSION, LEDGER_CHAIN, ledger));
        address accused = _signer(MessageHashUtils.toTypedDataHash(domain, one), firstBy.r, firstBy.vs);
        bytes32 digest = MessageHashUtils.toTypedDataHash(domain, other);
        if (_signer(digest, secondBy.r, secondBy.vs) != accused) revert BadSignature();
        _slash(accused);
    }

    function _slash(address accused) private {
        Account storage account = accounts[accused];
        uint64 penalty = account.bond + account.unbonding;
        if (penalty == 0) revert NothingStaked();
        (account.bond, account.unbonding, account.unlockAt) = (0, 0, 0);
        uint64 reward = penalty / 2;
        burned += penalty - reward;
        _credit(msg.sender, reward);
        emit Slashed(accused, msg.sender, penalty, reward);
    }

    // L1: money

    function _credit(address to, uint256 amount) private {
        (uint256 place, uint256 account) = _account(to);
        _setFree(place, account, _sum(uint64(account), amount));
    }

    function _debit(address from, uint256 amount) private {
        (uint256 place, uint256 account) = _account(from);
        uint256 free = uint64(account);
        if (free < amount) revert Balance();
        unchecked {
            _setFree(place, account, free - amount);
        }
    }

    /// @dev An account's slot, and the word in it, whose lowest 64 bits are what is free. Read and written as fields it
    /// would be read twice.
    function _account(address of_) private view returns (uint256 place, uint256 account) {
        Account storage found = accounts[of_];
        assembly ("memory-safe") {
            place := found.slot
            account := sload(place)
        }
    }

    function _setFree(uint256 place, uint256 account, uint256 free) private {
        assembly ("memory-safe") {
            sstore(place, or(shl(64, shr(64, account)), free))
        }
    }

    function _sum(uint256 one, uint256 other) private pure returns (uint64) {
        uint256 sum = one + other;
        if (sum > MAX_MONEY) revert Overflow();
        return uint64(sum);
    }

    function _requirePositive(uint256 amount) private pure {
        if (amount == 0) revert Amount();
    }

    // Sessions

    function _provider(uint224 leg) private pure returns (address) {
        return address(uint160(leg >> 64));
    }

    function _end(Session calldata session) private view returns (uint256) {
        return uint256(session.expiry) + grace;
    }

    /// @dev L19: a closed one is forgotten after its grace.
    function _requireKnown(Session calldata session, bytes32 slot) private view {
        if (slot == 0 || (slot == CLOSED && block.timestamp > _end(session))) revert UnknownSession();
    }

    /// @dev The marks of an open session, as they were handed in and are stored.
    function _marks(Session calldata session, bytes32 id, bytes calldata given)
        private
        view
        returns (bytes memory marks)
    {
        bytes32 slot = sessions[id];
        assembly ("memory-safe") {
            marks := mload(64)
            mstore(marks, given.length)
            let end := add(add(marks, 32), given.length)
            calldatacopy(add(marks, 32), given.offset, given.length)
            // half a word may be left, which is nothing held
            mstore(end, 0)
            mstore(64, add(end, 32))
        }
        if (keccak256(marks) == slot) return marks;
        _requireKnown(session, slot);
        if (slot == CLOSED) revert SessionClosed();
        revert Stale();
    }

    /// @dev A leg's mark. What asks has compared the leg with how many there are.
    function _markOf(bytes memory marks, uint256 leg) private pure returns (uint256 settled, uint256 ceiling) {
        assembly ("memory-safe") {
            let mark := mload(add(add(marks, 16), shl(4, leg)))
            settled := and(shr(64, mark), 0xffffffffffffffff)
            ceiling := and(mark, 0xffffffffffffffff)
        }
    }

    /// @dev Add to a leg's mark: to its ceiling, or, times 2^64, to what is settled; modulo 2^256, so that it can be less
    /// than nothing. Neither leaves its 64 bits: the caller has compared them.
    function _move(bytes memory marks, uint256 leg, uint256 by) private pure {
        assembly ("memory-safe") {
            let at := add(add(marks, 16), shl(4, leg))
            mstore(at, add(mload(at), by))
        }
    }

    function _held(bytes memory marks) private pure returns (uint256 held) {
        assembly ("memory-safe") {
            // two marks a word, four numbers added all at once: no sum passes what the client once had, below 2^63
            let sums := 0
            let end := add(marks, mload(marks))
            for { let at := marks } lt(at, end) {} {
                at := add(at, 32)
                sums := add(sums, mload(at))
            }
            held := sub(
                add(and(shr(128, sums), 0xffffffffffffffff), and(sums, 0xffffffffffffffff)),
                add(shr(192, sums), and(shr(64, sums), 0xffffffffffffffff))
            )
        }
    }

    function _store(bytes32 id, bytes memory marks, uint256 held) private {
        if (held == 0) {
            sessions[id] = CLOSED;
            emit Closed(id);
        } else {
            sessions[id] = keccak256(marks);
            bytes32 kind = Marked.selector;
            assembly ("memory-safe") {
                log2(add(marks, 32), mload(marks), kind, id)
            }
        }
    }

    // EIP-712 hashes

    function _hashAmounts(uint64[] calldata amounts) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let at := mload(64)
            calldatacopy(at, amounts.offset, mul(amounts.length, 32))
            hash := keccak256(at, mul(amounts.length, 32))
        }
    }

    function _hashVoucher(Claim calldata claim, bytes32 id) private pure returns (bytes32) {
        bytes32 amounts = _hashAmounts(claim.amounts);
        return keccak256(abi.encode(VOUCHER, id, amounts, claim.tokensIn, claim.tokensOut, claim.receipts));
    }

    function _id(Session calldata session, uint224[] calldata legs) private pure returns (bytes32 hash) {
        (bytes32 leg, bytes32 kind) = (LEG, SESSION);
        assembly ("memory-safe") {
            let at := mload(64)
            let end := add(at, mul(legs.length, 32))
            mstore(end, leg)
            let away := sub(legs.offset, at)
            for { let to := at } lt(to, end) { to := add(to, 32) } {
                // what stands above a provider's address is hashed with it: such a session nobody has signed
                let word := calldataload(add(to, away))
                mstore(add(end, 32), shr(64, word))
                mstore(add(end, 64), and(word, 0xffffffffffffffff))
                mstore(to, keccak256(end, 96))
            }
            hash := keccak256(at, sub(end, at))
            mstore(at, kind)
            // client, expiry, terms, salt
            calldatacopy(add(at, 32), session, 128)
            mstore(add(at, 160), hash)
            hash := keccak256(at, 192)
        }
    }

    function _hashReceipt(Receipt calldata receipt) private pure returns (bytes32) {
        // in two halves, which are whole words: so many values do not fit on the stack
        return keccak256(
            bytes.concat(
                abi.encode(
                    RECEIPT,
                    receipt.session,
                    receipt.leg,
                    receipt.window,
                    receipt.tokensIn,
                    receipt.tokensOut,
                    receipt.rows,
                    receipt.input,
                    receipt.output
                ),
                abi.encode(
                    receipt.tokens,
                    receipt.nonce,
                    receipt.sketches,
                    receipt.millijoules,
                    keccak256(bytes(receipt.source)),
                    receipt.pueMilli,
                    receipt.p50Us,
                    receipt.p95Us,
                    receipt.late
                )
            )
        );
    }

    function _hashCheckpoint(Checkpoint calldata checkpoint) private pure returns (bytes32) {
        return keccak256(abi.encode(CHECKPOINT, checkpoint.origin, checkpoint.size, checkpoint.root));
    }

    function _requireSigner(bytes32 structHash, bytes32 r, bytes32 vs, address expected) private view {
        if (_signer(_hashTypedDataV4(structHash), r, vs) != expected) revert BadSignature();
    }

    /// @dev Who made an EIP-2098 signature; there is no signature of nobody.
    function _signer(bytes32 digest, bytes32 r, bytes32 vs) private view returns (address signer) {
        assembly ("memory-safe") {
            let at := mload(64)
            mstore(at, digest)
            mstore(add(at, 32), add(27, shr(255, vs)))
            mstore(add(at, 64), r)
            mstore(add(at, 96), shr(1, shl(1, vs)))
            mstore(0, 0)
            pop(staticcall(gas(), 1, at, 128, 0, 32))
            signer := mload(0)
        }
        if (signer == address(0)) revert BadSignature();
    }
}
