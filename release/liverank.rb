class Liverank < Formula
  desc "Ranks videos by what viewers do and carries their live comments"
  homepage "@HOMEPAGE@"
  version "@VERSION@"
  license "Apache-2.0"

  on_macos do
    on_arm do
      url "@DOWNLOADS@/v@VERSION@/liverank-@VERSION@-macos-aarch64.tar.gz"
      sha256 "@SHA256:macos-aarch64@"
    end
    on_intel do
      url "@DOWNLOADS@/v@VERSION@/liverank-@VERSION@-macos-x86_64.tar.gz"
      sha256 "@SHA256:macos-x86_64@"
    end
  end

  on_linux do
    on_arm do
      url "@DOWNLOADS@/v@VERSION@/liverank-@VERSION@-linux-aarch64.tar.gz"
      sha256 "@SHA256:linux-aarch64@"
    end
    on_intel do
      url "@DOWNLOADS@/v@VERSION@/liverank-@VERSION@-linux-x86_64.tar.gz"
      sha256 "@SHA256:linux-x86_64@"
    end
  end

  def install
    bin.install "liverank", "kubectl-liverank"
    man1.install Dir["man/*.1"]
    generate_completions_from_executable(bin/"liverank", "completion")
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/liverank version")
  end
end
