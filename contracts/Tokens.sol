// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

// Tokens for tests only: an honest one, and those that the settlement contract has to refuse or survive.

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// An ERC-20 with so many decimals; anyone mints.
contract PlainToken is ERC20 {
    uint8 private immutable _decimals;

    constructor(uint8 decimals_) ERC20("Test dollar", "TUSD") {
        _decimals = decimals_;
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// Keeps a hundredth of each transfer.
contract FeeToken is PlainToken(6) {
    function _update(address from, address to, uint256 amount) internal override {
        if (from == address(0) || to == address(0)) return super._update(from, to, amount);
        super._update(from, address(this), amount / 100);
        super._update(from, to, amount - amount / 100);
    }
}

/// Says false where it should revert, and moves nothing.
contract FalseToken is PlainToken(6) {
    function transfer(address, uint256) public pure override returns (bool) {
        return false;
    }

    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return false;
    }
}

/// Moves what it should, and returns nothing: as some old tokens do.
contract SilentToken {
    uint8 public constant decimals = 6;
    mapping(address => uint256) public balanceOf;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address, uint256) external {}

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// Moves nothing from or to whom it has blocked, nor anything while it is paused: as tokens of issuers do.
contract BlockingToken is PlainToken {
    mapping(address => bool) public blocked;
    bool public paused;

    constructor(uint8 decimals_) PlainToken(decimals_) {}

    function setBlocked(address account, bool value) external {
        blocked[account] = value;
    }

    function setPaused(bool value) external {
        paused = value;
    }

    function _update(address from, address to, uint256 amount) internal override {
        require(!paused && !blocked[from] && !blocked[to], "blocked");
        super._update(from, to, amount);
    }
}

/// Calls somebody back in the middle of each transfer, once, with what it was told to.
contract CallingToken is PlainToken(6) {
    address private _target;
    bytes private _call;
    bool public answered;
    bytes public answer;

    function arm(address target, bytes calldata call) external {
        (_target, _call) = (target, call);
    }

    /// The token itself acts as an account: it deposits, so that it has something to withdraw.
    function act(address target, bytes calldata call) external {
        (bool done, bytes memory result) = target.call(call);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(result, 32), mload(result))
            }
        }
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (_target == address(0)) return;
        (address target, bytes memory call) = (_target, _call);
        _target = address(0);
        (answered, answer) = target.call(call);
    }
}
